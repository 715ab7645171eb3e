"""The door: where the collecting side hands events over, whatever is behind it (a master, a table, an embedding program)."""

from collections.abc import Callable
from typing import Protocol

from adapters.events import Event, Status

Put = Callable[[Event], None]
Republish = Callable[[str], None]


class Sink(Protocol):
    """Takes events and never blocks or raises: what it cannot keep it conflates or drops, counts, and reports as a gap."""

    def open(self, exchange: str, republish: Republish) -> Put:
        """The entrance for one exchange. `republish(symbol)` puts a whole book, after changes of it had to be dropped."""

    def status(self, status: Status) -> None:
        """A change of state, for whoever shows it."""

    async def drain(self, within: float) -> bool:
        """Hand over everything that was put: whether that was done `within` seconds."""
