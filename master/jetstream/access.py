"""How a program gets to the NATS servers. A worker is told this, and needs neither settings nor the library to hold it."""

from pathlib import Path
from ssl import SSLContext

from msgspec import Struct

from master.tls import TlsError, trusting


class Access(Struct, frozen=True):
    """`nkey`: file with the seed; `ca`: whom tls:// believes, instead of the system's authorities; `cert`, `key`: our own."""

    servers: tuple[str, ...]
    nkey: Path | None = None
    ca: Path | None = None
    cert: Path | None = None
    key: Path | None = None

    def tls(self) -> SSLContext | None:
        """None where no server wants it. Raises TlsError."""
        if not any(url.startswith("tls:") for url in self.servers):
            return None
        context = trusting(self.ca)
        if self.cert is not None:
            try:
                context.load_cert_chain(self.cert, self.key)
            except OSError as error:
                raise TlsError(f"{self.cert}, {self.key}: {error.strerror or error}") from error
        return context
