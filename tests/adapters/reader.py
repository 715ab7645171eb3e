"""A reader of changes: keeps a book from a base and the changes after it, as a consumer would."""

from adapters.events import Book, BookDelta, Levels, Status
from adapters.live import Output


class Reader:
    """Of one market. The book after a change of its state is the base; any other is a view, and must agree."""

    def __init__(self) -> None:
        self.sides: tuple[dict[float, tuple[str, str]], dict[float, tuple[str, str]]] = ({}, {})
        self.sequence: int | None = None
        self.awaits_base = True
        self.views = 0

    def read(self, outputs: list[Output]) -> None:
        for output in outputs:
            if isinstance(output, Status) and output.scope == "book":
                self.awaits_base = True
            elif isinstance(output, Book) and self.awaits_base:
                self.sides = ({}, {})
                self.change((output.bids, output.asks))
                self.sequence, self.awaits_base = output.sequence, False
            elif isinstance(output, Book):
                bids, asks = self.book()
                assert (output.bids, output.asks) == (bids[: len(output.bids)], asks[: len(output.asks)])
                assert output.sequence == self.sequence
                self.views += 1
            elif isinstance(output, BookDelta):
                assert not self.awaits_base
                assert output.previous == self.sequence
                self.change((output.bids, output.asks))
                self.sequence = output.sequence

    def change(self, changed: tuple[Levels, Levels]) -> None:
        for side, levels in zip(self.sides, changed, strict=True):
            for price, amount in levels:
                if amount == "0":
                    side.pop(float(price), None)
                else:
                    side[float(price)] = (price, amount)

    def book(self) -> tuple[Levels, Levels]:
        bids, asks = self.sides
        return [bids[price] for price in sorted(bids, reverse=True)], [asks[price] for price in sorted(asks)]
