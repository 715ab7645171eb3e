"""Bitstamp spot: public REST, /api/v2. A path may end with a slash or not."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING

from simulator.bitstamp_feeds import native, rows, trade_id
from simulator.instruments import Instrument
from simulator.limits import FixedWindow, RollingWindow
from simulator.market import Book, Market
from simulator.venue import Answer, Call, RefusalError

if TYPE_CHECKING:
    from simulator.exchange import Exchange

BURST = 400  # calls in a second (sheet, section 8)
LAG = 1.0  # seconds an order book is shown again: REST lags the socket (section 10)
SPANS = {"minute": 60, "hour": 3600, "day": 86_400}
STEPS = (60, 180, 300, 900, 1800, 3600, 7200, 14_400, 21_600, 43_200, 86_400, 259_200)


class Rest:
    """The calls a collector makes, for one exchange."""

    def __init__(self, exchange: Exchange, symbols: Mapping[str, str]) -> None:
        self.exchange = exchange
        self.symbols = symbols
        self._windows: dict[str, tuple[RollingWindow, FixedWindow]] = {}
        self._books: dict[tuple[str, str], tuple[int, Answer]] = {}
        self._routes: dict[str, Callable[[Market, Call], Answer]] = {
            "order_book": self._order_book,
            "transactions": self._transactions,
            "ohlc": self._ohlc,
            "ticker": lambda market, _call: Answer.json(self._ticker(market)),
            "ticker_hour": lambda market, _call: Answer.json(self._ticker(market)),
        }

    def answer(self, call: Call, now: float) -> Answer:
        """Ten thousand calls in ten minutes, of them some hundred in a second."""
        facts = self.exchange.facts
        full = RollingWindow(BURST, 1.0), FixedWindow(facts.rest, facts.rest_window)
        if not all(window.take(now) for window in self._windows.setdefault(call.address, full)):
            self.exchange.limited["rest"] += 1
            return Answer.json({"code": "400.002", "reason": "Request rate limit exceeded.", "status": "error"}, 429)
        try:
            return self._answer(call)
        except RefusalError as error:
            if error.code == 404:
                return Answer.json({"error": error.text}, 404)
            return Answer.json({"status": "error", "reason": error.text, "code": "API0005"}, 400)

    def _answer(self, call: Call) -> Answer:
        match call.path.removeprefix("/api/v2/").strip("/").split("/"):
            case ["markets"]:
                return Answer.json([_market(instrument) for instrument in self.exchange.instruments.values()])
            case ["trading-pairs-info"]:
                return Answer.json([_pair(instrument) for instrument in self.exchange.instruments.values()])
            case ["ticker"]:
                markets = self.exchange.markets.values()
                return Answer.json([self._ticker(market) | {"pair": market.symbol} for market in markets])
            case [what, name] if what in self._routes:
                market = self.exchange.market(self.symbols.get(name, ""), asked=True)
                if market is not None:
                    return self._routes[what](market, call)
        raise RefusalError("Not found.", 404)

    def _order_book(self, market: Market, call: Call) -> Answer:
        """The whole book; group 2 names the orders. It may be a second old, and by fault older than every listener."""
        group = call.query.get("group", "1")
        if group not in {"0", "1", "2"}:
            raise RefusalError("Invalid group.")
        now, key = self.exchange.clock.stamp(), (market.symbol, group)
        sequence, book = self.exchange.snapshot(market)
        if sequence < market.sequence:
            return _book(market.instrument, book, _when(market, sequence), group)
        if key not in self._books or now - self._books[key][0] > LAG * 1_000_000 / self.exchange.pace:
            self._books[key] = (now, _book(market.instrument, book, now, group))
        return self._books[key][1]

    def _transactions(self, market: Market, call: Call) -> Answer:
        """The trades of the last minute, hour or day, newest first. There is no cursor."""
        span = call.query.get("time", "hour")
        if span not in SPANS:
            raise RefusalError("Invalid time.")
        begin = self.exchange.clock.stamp() - SPANS[span] * 1_000_000
        price, amount = market.instrument.price_text, market.instrument.amount_text
        return Answer.json(
            [
                {
                    "date": str(trade.time // 1_000_000),
                    "tid": str(trade_id(trade)),
                    "price": price(trade.ticks),
                    "type": "0" if trade.buyer else "1",
                    "amount": amount(trade.lots),
                }
                for trade in reversed(market.trades)
                if trade.time >= begin
            ]
        )

    def _ohlc(self, market: Market, call: Call) -> Answer:
        """Candles, oldest first: the last ones, or those from `start` on."""
        step, limit = _integer(call, "step", 0), _integer(call, "limit", 100)
        if step not in STEPS or not 1 <= limit <= 1000:
            raise RefusalError("Invalid step or limit.")
        begin, end = _integer(call, "start", 0), _integer(call, "end", 1 << 62)
        price, amount = market.instrument.price_text, market.instrument.amount_text
        candles = market.candles(step // 60, self.exchange.clock.stamp())
        if call.query.get("exclude_current_candle") == "true":
            candles = candles[:-1]
        chosen = [candle for candle in candles if begin <= candle.start // 1_000_000 <= end]
        rows = [
            {
                "close": price(c.close),
                "high": price(c.high),
                "low": price(c.low),
                "open": price(c.open),
                "timestamp": str(c.start // 1_000_000),
                "volume": amount(c.volume),
            }
            for c in (chosen[:limit] if begin else chosen[-limit:])
        ]
        return Answer.json({"data": {"ohlc": rows, "pair": market.symbol}})

    def _ticker(self, market: Market) -> dict[str, str]:
        day, book, price = market.day, market.book, market.instrument.price_text
        last = market.recent(1)
        return {
            "ask": price(-book.asks[-1]),
            "bid": price(book.bids[-1]),
            "high": price(day.high),
            "last": price(day.close),
            "low": price(day.low),
            "open": price(day.open),
            "open_24": price(day.open),
            "percent_change_24": f"{(day.close - day.open) / day.open * 100:.2f}",
            "side": "0" if last and last[0].buyer else "1",
            "timestamp": str(self.exchange.clock.stamp() // 1_000_000),
            "volume": market.instrument.amount_text(day.volume),
            "vwap": price(day.turnover // day.volume if day.volume else day.close),
        }


def _book(instrument: Instrument, book: Book, time: int, group: str) -> Answer:
    """Written with spaces, as recorded."""
    bids, asks = (
        rows(instrument, book.top(side, len(side)), orders=group == "2").replace(",", ", ") for side in (book.bids, book.asks)
    )
    stamps = f'"timestamp": "{time // 1_000_000}", "microtimestamp": "{time}"'
    return Answer(f'{{{stamps}, "bids": [{bids}], "asks": [{asks}]}}')


def _when(market: Market, sequence: int) -> int:
    """A time at which an old book was true: that of the last trade it had seen."""
    return next((trade.time for trade in reversed(market.trades) if trade.sequence <= sequence), market.day.start)


def _integer(call: Call, name: str, default: int) -> int:
    text = call.query.get(name, str(default))
    if not text.isdecimal():
        raise RefusalError(f"Invalid {name}.")
    return int(text)


def _market(instrument: Instrument) -> dict[str, object]:
    """One row of markets."""
    return {
        "name": instrument.symbol,
        "market_symbol": native(instrument),
        "base_currency": instrument.base,
        "base_decimals": instrument.amount_decimals,
        "counter_currency": instrument.quote,
        "counter_decimals": instrument.price_decimals,
        "minimum_order_value": "10",
        "trading": instrument.state or "Enabled",
        "instant_and_market_orders": "Enabled",
        "market_type": "SPOT",
    }


def _pair(instrument: Instrument) -> dict[str, object]:
    """One row of trading-pairs-info, the older list."""
    return {
        "trading": instrument.state or "Enabled",
        "base_decimals": instrument.amount_decimals,
        "url_symbol": native(instrument),
        "name": instrument.symbol,
        "instant_and_market_orders": "Enabled",
        "minimum_order": f"20.0 {instrument.quote}",
        "counter_decimals": instrument.price_decimals,
        "description": f"{instrument.base} / {instrument.quote}",
    }
