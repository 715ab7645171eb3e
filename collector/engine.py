"""What carries an Outbox to those who keep it: MasterPool, or JetStream. A worker does not know which it has."""

import asyncio
from typing import Protocol

from collector.outbox import Outbox
from master.protocol import Known


class FencedError(Exception):
    """Another process has taken this worker's place: a newer boot of the same name is there."""


class Engine(Protocol):
    """`known`: what is stored already, once somebody has said so; `live`: connections that are up; `trouble`: why something
    waits that should not."""

    outbox: Outbox
    known: asyncio.Future[dict[str, Known]]

    @property
    def live(self) -> int: ...
    @property
    def trouble(self) -> str | None: ...

    def known_of(self, exchange: str) -> Known:
        """What is kept of an exchange, as far as it is known by now."""

    async def run(self) -> None:
        """Until cancelled. Raises FencedError."""

    async def close(self) -> None:
        """After `run` has ended."""
