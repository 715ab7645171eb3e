"""What is true of one market, and each change of it: the measure for what an adapter tells.

Prices and amounts are whole ticks and lots here, so that the truth is exact; text is made only when something is written.
"""

from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from functools import cache
from itertools import pairwise
from random import Random

Side = dict[int, int]
"""Price in ticks to amount in lots."""

Rows = list[tuple[int, int]]
"""(ticks, lots); no lots removes the level."""

View = tuple[list[tuple[str, str]], list[tuple[str, str]]]
"""Bids and asks as text, best first."""

SHOWN = 10
"""Levels a side that are remembered of every past state."""
FIRST_DEAL = 501


@dataclass(frozen=True)
class Move:
    """What happened to a book between the updates `first` and `last`, in order; a price may come more than once.

    `bid_numbers`, `ask_numbers`: the update that each row is.
    """

    first: int
    last: int
    bids: Rows
    asks: Rows
    bid_numbers: list[int]
    ask_numbers: list[int]

    @property
    def previous(self) -> int:
        return self.first - 1


@dataclass(frozen=True)
class Deal:
    number: int
    price: int
    amount: int
    side: str
    micros: int = 0


@cache
def text(number: int, places: int) -> str:
    """`1250` with two places is `12.50`."""
    whole, fraction = divmod(number, 10**places)
    return f"{whole}.{fraction:0{places}d}" if places else str(whole)


@dataclass
class Market:
    """A market of its own will. `loose`: a number is written with or without its trailing zeros, as some venues do."""

    native: str
    symbol: str
    random: Random
    loose: bool = False
    price_places: int = 2
    amount_places: int = 4
    bids: Side = field(default_factory=dict)
    asks: Side = field(default_factory=dict)
    sequence: int = 1000
    deals: dict[int, Deal] = field(default_factory=dict)
    """Every trade by its number."""
    last_price: int = 10_000
    micros: int = 0
    """The time now, microseconds UTC."""
    past: dict[int, tuple[Side, Side]] = field(default_factory=dict)
    """Every state it was in: sequence to both sides, their best levels only."""

    def __post_init__(self) -> None:
        for distance in self.random.sample(range(1, 60), 24):
            self.bids[self.last_price - distance] = self._lots()
            self.asks[self.last_price + distance] = self._lots()
        self._remember()

    def move(self) -> Move:
        """One to four updates of the book, the best price and a level that is not there among them now and then."""
        first = self.sequence + 1
        move = Move(first, first, [], [], [], [])
        for _ in range(self.random.choice((1, 1, 2, 4))):
            self.sequence += 1
            if self.random.random() < 0.5:
                move.bids.append(self._change(self.bids, down=True))
                move.bid_numbers.append(self.sequence)
            else:
                move.asks.append(self._change(self.asks, down=False))
                move.ask_numbers.append(self.sequence)
        self._remember()
        return replace(move, last=self.sequence)

    def deal(self) -> Deal:
        """The next trade. Numbers rise by one."""
        number = FIRST_DEAL + len(self.deals)
        side = self.random.choice(("buy", "sell"))
        self.last_price = self.best_ask if side == "buy" else self.best_bid
        deal = self.deals[number] = Deal(number, self.last_price, self._lots(), side, self.micros)
        return deal

    @property
    def best_bid(self) -> int:
        return max(self.bids)

    @property
    def best_ask(self) -> int:
        return min(self.asks)

    def _change(self, side: Side, *, down: bool) -> tuple[int, int]:
        best, sign = (max(side), -1) if down else (min(side), 1)
        roll = self.random.random()
        if roll < 0.25 and len(side) > 8:
            price, lots = self.random.choice((best, best, *side)), 0
        elif roll < 0.3:
            price, lots = best + sign * 500, 0  # of a level that is not there
        elif roll < 0.45:
            other = self.best_ask if down else self.best_bid
            price = best if abs(other - best) < 2 else best - sign
            lots = self._lots()
        else:
            price, lots = best + sign * self.random.randint(0, 60), self._lots()
        if lots:
            side[price] = lots
        else:
            side.pop(price, None)
        return price, lots

    def _lots(self) -> int:
        return self.random.choice((1, 10, 100, 5000, 10_000, 123_456))

    def _remember(self) -> None:
        bids, asks = self.best(SHOWN)
        self.past[self.sequence] = (dict(bids), dict(asks))

    def best(self, depth: int) -> tuple[Rows, Rows]:
        """The best levels of both sides, best first."""
        return sorted(self.bids.items(), reverse=True)[:depth], sorted(self.asks.items())[:depth]

    # As text -------------------------------------------------------------------------------------------------------

    def price(self, ticks: int) -> str:
        return self._written(text(ticks, self.price_places))

    def amount(self, lots: int) -> str:
        return self._written(text(lots, self.amount_places))

    def rows(self, rows: Rows) -> list[list[str]]:
        return [[self.price(price), self.amount(lots)] for price, lots in rows]

    def _written(self, number: str) -> str:
        if self.loose and self.random.random() < 0.5 and "." in number:
            return number.rstrip("0").rstrip(".") or "0"
        return number

    # The measure ---------------------------------------------------------------------------------------------------

    def read(self, levels: Iterable[tuple[str, str]]) -> Rows:
        """Levels of a view in ticks and lots, whichever way they are written."""
        return [(_units(price, self.price_places), _units(amount, self.amount_places)) for price, amount in levels]

    def was(self, view: View, sequence: int | None, *, complete: bool = True) -> bool:
        """Whether a view shows the best levels as they were at `sequence` (None: at any time); all of them, if `complete`."""
        bids, asks = self.read(view[0]), self.read(view[1])
        states = self.past.values() if sequence is None else [self.past[sequence]] if sequence in self.past else []
        return any(_fits(bids, state[0], complete) and _fits(asks, state[1], complete) for state in states)

    def is_now(self, view: View) -> bool:
        """Whether a view shows the best levels as they now are, some of each side at least."""
        return all(view) and self.was(view, self.sequence, complete=False)


@cache
def _units(number: str, places: int) -> int:
    whole, _, fraction = number.partition(".")
    assert fraction[places:].strip("0") == "", f"{number} is finer than the market"
    return int(whole + fraction[:places].ljust(places, "0"))


def _fits(shown: Rows, state: Side, complete: bool) -> bool:
    truth = list(state.items())
    return shown == truth[: len(shown)] and (not complete or len(shown) == min(len(truth), SHOWN))


def joined(moves: list[Move]) -> Move:
    """Moves that follow each other as one."""
    rows = ("bids", "asks", "bid_numbers", "ask_numbers")
    whole = {name: [row for move in moves for row in getattr(move, name)] for name in rows}
    return Move(moves[0].first, moves[-1].last, **whole)


def window_move(before: tuple[Rows, Rows], after: tuple[Rows, Rows]) -> tuple[Rows, Rows]:
    """What a venue that shows a fixed depth says: levels that came or changed, and removals of what was taken away.

    A level that was only pushed out of the window gets no removal: it is worse than all that are left.
    """
    told = []
    for old, new in zip(before, after, strict=True):
        gone = dict(old).keys() - dict(new).keys()
        worst = new[-1][0] if new else None
        descending = any(a > b for (a, _), (b, _) in pairwise(new))
        pushed_out = {price for price in gone if worst is not None and (price < worst if descending else price > worst)}
        rows = [(price, 0) for price in sorted(gone - pushed_out)]
        rows += [(price, lots) for price, lots in new if dict(old).get(price) != lots]
        told.append(rows)
    return told[0], told[1]
