"""The section `jetstream` of config.json, which both programs read: where the NATS server is, and what it is to keep."""

from pathlib import Path
from typing import Literal

from pydantic import Field, model_validator

from master.jetstream.access import Access
from master.section import Section

Storage = Literal["file", "memory"]


class Queue(Section):
    """The stream `batch`: what collectors publish, until a master has it."""

    storage: Storage = "file"
    replicas: int = Field(default=1, ge=1, le=5, description="servers that keep each message; 3 in a cluster")
    max_gb: float = Field(default=10.0, gt=0, description="size above which the server takes no more, so that spools wait")
    max_hours: float | None = Field(default=None, gt=0, description="age at which what no master took is lost; null: never")
    duplicate_seconds: float = Field(default=120.0, ge=1, description="for so long the server itself drops what comes twice")


class Market(Section):
    """The stream `market`: what masters publish of each symbol, for those who come later; the oldest goes first."""

    storage: Storage = "file"
    replicas: int = Field(default=1, ge=1, le=5)
    max_gb: float = Field(default=10.0, gt=0)
    max_hours: float = Field(default=24.0, gt=0)
    duplicate_seconds: float = Field(default=120.0, ge=1)


class Republish(Section):
    """What a master publishes for any NATS client, once it is stored."""

    envelope: Literal["json", "protobuf"] = "json"
    keep: Market | None = Field(
        default=None, description="a stream of the server that keeps it; null: only who listens hears it"
    )


class JetStreamSettings(Section):
    """NATS JetStream between collectors and masters, instead of the master's own port. Off where `servers` is empty."""

    servers: tuple[str, ...] = Field(default=(), description="such as nats://127.0.0.1:4222, or tls://nats.example:4222")
    lanes: int = Field(default=2, ge=1, le=16, description="subjects batch.<exchange>.<lane> of each exchange")
    nkey: Path | None = Field(default=None, description="file with the seed of an nkey, with which to log in")
    ca: Path | None = Field(default=None, description="PEM file: whom tls:// believes, instead of the system's authorities")
    tls_cert: Path | None = Field(default=None, description="PEM file: our own certificate, where the server wants one")
    tls_key: Path | None = Field(default=None, description="PEM file: its key")
    name: str | None = Field(
        default=None, pattern=r"^[A-Za-z0-9_-]{1,64}$", description="of this master among several; its host's where left out"
    )
    queue: Queue = Queue()
    republish: Republish | None = Field(default=None, description="publish market.<exchange>.<symbol>.<type>; null: do not")

    @model_validator(mode="after")
    def _is_whole(self) -> "JetStreamSettings":
        for url in self.servers:
            if not url.startswith(("nats://", "tls://")):
                raise ValueError("servers: should begin with nats:// or tls://")
            if "@" in url:
                raise ValueError("servers: no user or password belongs into an address; use nkey")
        if (self.tls_cert is None) != (self.tls_key is None):
            raise ValueError("tls_cert and tls_key: the one is of no use without the other")
        return self

    @property
    def access(self) -> Access:
        return Access(self.servers, self.nkey, self.ca, self.tls_cert, self.tls_key)
