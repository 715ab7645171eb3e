"""Crypto.com Exchange v1: public REST, each method with its own window per address."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING

import orjson

from simulator.cryptocom_feeds import INTERVALS, candle_fields, native, rows, ticker, trade_id
from simulator.instruments import Instrument
from simulator.limits import FixedWindow
from simulator.market import Market, Trade
from simulator.venue import Answer, Call, RefusalError

if TYPE_CHECKING:
    from simulator.exchange import Exchange

DAY = 86_400_000_000  # microseconds
NANOSECONDS = 10**15  # times above are in nanoseconds, those below in milliseconds


class Rest:
    """The calls a collector makes, for one exchange."""

    def __init__(self, exchange: Exchange, symbols: Mapping[str, str]) -> None:
        self.exchange = exchange
        self.symbols = symbols
        self._windows: dict[tuple[str, str], FixedWindow] = {}
        self._routes: dict[str, Callable[[Call], str]] = {
            "public/get-instruments": self._instruments,
            "public/get-book": self._book,
            "public/get-trades": self._trades,
            "public/get-tickers": self._tickers,
            "public/get-candlestick": self._candles,
        }

    def answer(self, call: Call, now: float) -> Answer:
        """An envelope of id, method, code and result."""
        method = call.path.removeprefix("/exchange/v1/")
        handler = self._routes.get(method)
        if handler is None or call.method != "GET":
            return _error(method, "Method not found", 40002, 400)
        facts = self.exchange.facts
        window = self._windows.setdefault((call.address, method), FixedWindow(facts.rest, facts.rest_window))
        if not window.take(now):
            self.exchange.limited["rest"] += 1
            return _error(method, "Too many requests", 42901, 429)
        try:
            return Answer(f'{{"id":-1,"method":"{method}","code":0,"result":{{{handler(call)}}}}}')
        except RefusalError as error:
            return _error(method, error.text, error.code, 400)

    def _instruments(self, call: Call) -> str:
        """Spot pairs, and a perpetual among them."""
        listed = self.exchange.instruments.values()
        perpetual = _instrument(next(iter(listed))) | {"symbol": "BTCUSD-PERP", "inst_type": "PERPETUAL_SWAP"}
        return f'"data":{orjson.dumps([*map(_instrument, listed), perpetual]).decode()}'

    def _book(self, call: Call) -> str:
        market = self._market(call)
        depth = _integer(call, "depth", 50, 150)
        _, book = self.exchange.snapshot(market)
        asks, bids = (rows(market.instrument, book.top(side, depth)) for side in (book.asks, book.bids))
        data = f'{{"asks":[{asks}],"bids":[{bids}],"t":{self.exchange.clock.stamp() // 1000}}}'
        return f'"instrument_name":"{native(market.instrument)}","depth":{depth},"data":[{data}]'

    def _trades(self, call: Call) -> str:
        """Newest first, from start_ts to before end_ts; a day where neither is said."""
        market = self._market(call)
        end = _time(call, "end_ts", self.exchange.clock.stamp() + 1)
        begin = _time(call, "start_ts", end - DAY)
        chosen = [trade for trade in market.trades if begin <= trade.time < end][-_integer(call, "count", 25, 150) :]
        return f'"data":[{",".join([_trade(market.instrument, trade) for trade in reversed(chosen)])}]'

    def _tickers(self, call: Call) -> str:
        """Of one instrument, or of the markets that are alive."""
        markets = [self._market(call)] if "instrument_name" in call.query else self.exchange.markets.values()
        return f'"data":[{",".join([ticker(market, self.exchange.clock.stamp()) for market in markets])}]'

    def _candles(self, call: Call) -> str:
        market = self._market(call)
        interval = call.query.get("timeframe", "1m")
        if interval not in INTERVALS:
            raise RefusalError("Invalid timeframe", 40003)
        end = _time(call, "end_ts", 1 << 62)
        begin = _time(call, "start_ts", 0)
        candles = market.candles(INTERVALS[interval], self.exchange.clock.stamp())
        chosen = [candle for candle in candles if begin <= candle.start < end][-_integer(call, "count", 25, 300) :]
        data = ",".join([f"{{{candle_fields(market.instrument, candle)}}}" for candle in chosen])
        return f'"interval":"{interval}","data":[{data}],"instrument_name":"{native(market.instrument)}"'

    def _market(self, call: Call) -> Market:
        name = call.query.get("instrument_name", "")
        if not name:
            raise RefusalError("Missing or invalid argument: instrument_name", 40004)
        market = self.exchange.market(self.symbols.get(name, ""), asked=True)
        if market is None:
            raise RefusalError("Invalid instrument_name", 40004)
        return market


def _error(method: str, text: str, code: int, status: int) -> Answer:
    return Answer.json({"id": -1, "method": method, "code": code, "message": text}, status)


def _integer(call: Call, name: str, default: int, most: int) -> int:
    text = call.query.get(name, str(default))
    if not text.isdecimal():
        raise RefusalError(f"Missing or invalid argument: {name}", 40004)
    return min(int(text), most)


def _time(call: Call, name: str, default: int) -> int:
    """Microseconds."""
    text = call.query.get(name)
    if text is None:
        return default
    if not text.isdecimal():
        raise RefusalError(f"Invalid date: {name}", 40005)
    return int(text) // 1000 if int(text) >= NANOSECONDS else int(text) * 1000


def _trade(instrument: Instrument, trade: Trade) -> str:
    """Sides are in lower case here."""
    return (
        f'{{"s":"{"buy" if trade.buyer else "sell"}","p":"{instrument.price_text(trade.ticks)}",'
        f'"q":"{instrument.amount_text(trade.lots)}","t":{trade.time // 1000},"tn":"{trade.time}000",'
        f'"d":"{trade_id(trade)}","i":"{native(instrument)}"}}'
    )


def _instrument(instrument: Instrument) -> dict[str, object]:
    return {
        "symbol": native(instrument),
        "inst_type": "CCY_PAIR",
        "display_name": instrument.symbol,
        "base_ccy": instrument.base,
        "quote_ccy": instrument.quote,
        "quote_decimals": instrument.price_decimals,
        "quantity_decimals": instrument.amount_decimals,
        "price_tick_size": instrument.tick,
        "qty_tick_size": instrument.lot,
        "max_leverage": "50",
        "tradable": not instrument.state,
        "expiry_timestamp_ms": 0,
        "underlying_symbol": "",
        "contract_size": "1",
    }
