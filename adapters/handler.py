"""Who is told what a venue says: the seam between a venue's dialect and everything that is remembered about it."""

from collections.abc import Mapping
from typing import Protocol

from adapters.book import Change, Snapshot
from adapters.effects import Effect
from adapters.errors import AdapterError
from adapters.events import Channel, Side


class Handler(Protocol):
    """Native names; prices and amounts as the venue's text; times in microseconds UTC, None where the venue sends none."""

    def trade(self, native: str, number: int | str, price: str, amount: str, side: Side, timestamp: int | None) -> None:
        """A live trade and its id. An int declares that the venue numbers a market's trades without holes."""

    def past_trade(self, native: str, number: int | str, price: str, amount: str, side: Side, timestamp: int | None) -> None:
        """A trade out of a snapshot or REST list: true, but not news."""

    def merged(self, native: str, first: int, last: int) -> None:
        """The trades of these ids went into the row that is told next, so that a past one of them is no news."""

    def snapshot(self, native: str, snapshot: Snapshot) -> None:
        """A whole book, the base of later changes."""

    def change(self, native: str, change: Change) -> None:
        """Changed levels of a book."""

    def view(self, native: str, snapshot: Snapshot) -> None:
        """The best levels of a book, complete in themselves; no change refers to them."""

    def ticker(self, native: str, timestamp: int | None, fields: Mapping[str, str | None]) -> None:
        """The named fields of a Ticker; empty text counts as absent."""

    def acked(
        self,
        *,
        channel: Channel | None = None,
        native: str | None = None,
        request: str | None = None,
        depth: int | None = None,
    ) -> None:
        """A subscription was accepted: the one named, else all of the request; a book at `depth`, if the venue says so."""

    def refused(
        self, reason: str, *, channel: Channel | None = None, native: str | None = None, request: str | None = None
    ) -> None:
        """A subscription was refused: the one named, else all of the request; else the venue reports an error."""

    def missed(self, first: int, last: int) -> None:
        """The connection numbers all its messages, and those from `first` to `last` never came, whatever they were about."""

    def paused(self) -> None:
        """The venue announces that nothing comes for a while, though the connection may stay open."""

    def welcomed(self) -> None:
        """The venue's greeting, before which it takes no subscription."""

    def effect(self, effect: Effect) -> None:
        """The venue asks for something: an answer to its ping, a reconnect, a connection to the address it gives."""

    def error(self, error: AdapterError) -> None:
        """The frame is readable, and a part of it is wrong."""
