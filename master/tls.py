"""TLS of both sides: the master's certificate, read again on demand, and whom a collector believes."""

import ssl
from pathlib import Path


class TlsError(Exception):
    """A certificate, key or authority cannot be used, and why."""


class Certificate:
    """What the master shows. `context` stays the same object, so that a renewed certificate serves the next connection."""

    def __init__(self, cert: Path, key: Path) -> None:
        """Raises TlsError."""
        self._cert = cert
        self._key = key
        self.context = self._read()

    def renew(self) -> None:
        """Read the files again. Raises TlsError, and keeps what it had."""
        self._read()  # apart first: a certificate without its key would be half taken
        self.context.load_cert_chain(self._cert, self._key)

    def _read(self) -> ssl.SSLContext:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.minimum_version = ssl.TLSVersion.TLSv1_2
        try:
            context.load_cert_chain(self._cert, self._key, password=_no_password)
        except OSError as error:  # an SSLError is one too
            raise TlsError(f"{self._cert}, {self._key}: {error.strerror or error}") from error
        return context


def trusting(ca: Path | None) -> ssl.SSLContext:
    """What a collector connects with: it believes this authority alone, or those of the system. Raises TlsError."""
    try:
        context = ssl.create_default_context(cafile=ca)
    except OSError as error:
        raise TlsError(f"{ca}: {error.strerror or error}") from error
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    return context


def _no_password() -> str:
    raise OSError("the key is encrypted; give one that is not, readable by its owner alone")
