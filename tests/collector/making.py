"""Events by number, as a venue would number them."""

from adapters.events import Book, BookDelta, Liquidation, Ticker, Trade

AT = 1_764_158_400_000_000
EXCHANGE = "kraken"
BTC, ETH = "BTC/USD", "ETH/USD"


def trade(number: int, symbol: str = BTC, exchange: str = EXCHANGE) -> Trade:
    return Trade(exchange, symbol, AT + number - 7, AT + number, str(number), "1.0", "2.0", "buy")


def delta(number: int, symbol: str = BTC) -> BookDelta:
    return BookDelta(EXCHANGE, symbol, AT + number - 7, AT + number, [("1.0", "0")], [], number, number - 1)


def book(number: int, symbol: str = BTC) -> Book:
    return Book(EXCHANGE, symbol, AT + number - 7, AT + number, [("1.0", "2")], [("1.1", "2")], number)


def ticker(number: int, symbol: str = BTC) -> Ticker:
    return Ticker(EXCHANGE, symbol, AT + number - 7, AT + number, last=str(number))


def liquidation(number: int, symbol: str = BTC) -> Liquidation:
    return Liquidation(EXCHANGE, symbol, AT + number - 7, AT + number, f"L{number}", "1.0", "2.0", "sell")
