"""Trades whose every field is a function of market and number, so that a judge needs no copy of them."""

from msgspec import Struct

FIRST = 1_000_000_000
"""Market i numbers its trades from (i + 1) times this, so that an id tells its market."""


class Tape(Struct, frozen=True):
    """All that ever happens at a venue: `rate` trades a second over all its markets, since `began` (microseconds UTC)."""

    markets: int
    rate: int
    began: int

    @property
    def step(self) -> int:
        """Microseconds between two trades of one market."""
        return self.markets * 1_000_000 // self.rate

    @property
    def symbols(self) -> list[str]:
        return [f"M{index:03d}/USDT" for index in range(self.markets)]

    @staticmethod
    def first_id(market: int) -> int:
        return (market + 1) * FIRST

    def happened(self, elapsed: float) -> int:
        """How many trades each market has had after so many seconds."""
        return int(elapsed * 1_000_000) // self.step

    def time(self, number: int) -> int:
        """When the trade of this id happened, microseconds UTC; the venue tells milliseconds."""
        return (self.began + number % FIRST * self.step) // 1000 * 1000

    # What a trade says of itself, and the same for DuckDB, where the id is a column `number`.

    @staticmethod
    def price(number: int) -> str:
        return f"{number % 99_991 + 1}.{number % 97:02d}"

    @staticmethod
    def amount(number: int) -> str:
        return f"{number % 89}.{number % 9_973 + 1:04d}"

    @staticmethod
    def is_sold(number: int) -> bool:
        return number % 3 == 0

    @property
    def sql(self) -> str:
        """Whether a row of `trades` says what the trade of its id said."""
        return (
            "price_text = printf('%d.%02d', number % 99991 + 1, number % 97)"
            " AND amount_text = printf('%d.%04d', number % 89, number % 9973 + 1)"
            " AND side = CASE WHEN number % 3 = 0 THEN 'sell' ELSE 'buy' END"
            f" AND timestamp = make_timestamp(({self.began} + number % {FIRST} * {self.step}) // 1000 * 1000)"
            f" AND symbol = printf('M%03d/USDT', number // {FIRST} - 1)"
        )
