"""OKX spot: public REST, /api/v5, each call with its own window of two seconds and its own count (`Facts.rest` at most)."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING

import orjson

from simulator.instruments import Instrument
from simulator.limits import FixedWindow
from simulator.market import Change, Market, Trade
from simulator.okx_feeds import BARS, candle_row, fields, native, orders, rows, ticker
from simulator.venue import Answer, Call, RefusalError

if TYPE_CHECKING:
    from simulator.exchange import Exchange


class Rest:
    """The calls a collector makes, for one exchange."""

    def __init__(self, exchange: Exchange, symbols: Mapping[str, str]) -> None:
        self.exchange = exchange
        self.symbols = symbols
        self._windows: dict[tuple[str, str], FixedWindow] = {}
        self._routes: dict[str, tuple[int, Callable[[Call], str]]] = {  # calls in two seconds, handler
            "market/trades": (100, self._trades),
            "market/history-trades": (20, self._history_trades),
            "market/books": (40, self._books),
            "market/books-full": (10, self._books_full),
            "market/candles": (40, self._candles),
            "market/history-candles": (20, self._candles),
            "market/ticker": (20, self._ticker),
            "market/tickers": (20, self._tickers),
            "public/instruments": (20, self._instruments),
            "public/time": (10, self._time),
            "system/status": (1, lambda _call: ""),
        }

    def answer(self, call: Call, now: float) -> Answer:
        """An envelope of code, msg and data."""
        path = call.path.removeprefix("/api/v5/")
        route = self._routes.get(path)
        if route is None:
            return _error(50404, "API endpoint does not exist", 404)
        limit, handler = route
        facts = self.exchange.facts
        window = self._windows.setdefault((call.address, path), FixedWindow(min(limit, facts.rest), facts.rest_window))
        if not window.take(now):
            self.exchange.limited["rest"] += 1
            return _error(50011, "Too Many Requests", 429)
        try:
            return Answer(f'{{"code":"0","msg":"","data":[{handler(call)}]}}')
        except RefusalError as error:
            return _error(error.code, error.text)

    def _trades(self, call: Call) -> str:
        market = self._market(call)
        return _trade_rows(market, market.recent(_integer(call, "limit", 100, 500)))

    def _history_trades(self, call: Call) -> str:
        """Single matches, newest first. `after` asks for older, `before` for newer, by id or (type 2) by time."""
        market = self._market(call)
        limit = _integer(call, "limit", 100, 100)
        kind = call.query.get("type", "1")
        if kind not in {"1", "2"}:
            raise RefusalError("Parameter type error", 51000)
        older, newer = _integer(call, "after", 1 << 62), _integer(call, "before", -1)
        if kind == "1":
            first = market.trades[0].id if market.trades else 0
            begin = max(newer + 1, min(older, first + len(market.trades)) - limit)
            return _trade_rows(market, [trade for trade in market.since(begin, limit) if trade.id < older])
        return _trade_rows(market, [trade for trade in market.trades if newer < trade.time // 1000 < older][-limit:])

    def _books(self, call: Call) -> str:
        market = self._market(call)
        size = _integer(call, "sz", 1, 400)
        sequence, book = self.exchange.snapshot(market)
        asks, bids = (rows(market.instrument, book.top(side, size)) for side in (book.asks, book.bids))
        time = self.exchange.clock.stamp() // 1000
        return f'{{"asks":[{asks}],"bids":[{bids}],"ts":"{time}","seqId":{sequence}}}'

    def _books_full(self, call: Call) -> str:
        """Levels of three items here."""
        market = self._market(call)
        size = _integer(call, "sz", 1, 5000)
        _, book = self.exchange.snapshot(market)
        price, amount = market.instrument.price_text, market.instrument.amount_text

        def side(levels: list[Change]) -> list[list[str]]:
            return [[price(ticks), amount(lots), str(orders(lots))] for ticks, lots in levels]

        sides = {"asks": side(book.top(book.asks, size)), "bids": side(book.top(book.bids, size))}
        return orjson.dumps({**sides, "ts": str(self.exchange.clock.stamp() // 1000)}).decode()

    def _candles(self, call: Call) -> str:
        market = self._market(call)
        bar = call.query.get("bar", "1m")
        if bar not in BARS:
            raise RefusalError("Parameter bar error", 51000)
        candles = market.candles(BARS[bar], self.exchange.clock.stamp())
        older, newer = _integer(call, "after", 1 << 62), _integer(call, "before", -1)
        chosen = [candle for candle in candles if newer < candle.start // 1000 < older]
        chosen = chosen[-_integer(call, "limit", 100, 300) :]
        return ",".join([candle_row(market.instrument, candle, candle is not candles[-1]) for candle in reversed(chosen)])

    def _ticker(self, call: Call) -> str:
        return ticker(self._market(call), self.exchange.clock.stamp())

    def _tickers(self, call: Call) -> str:
        """Of the markets that are alive."""
        _spot(call)
        return ",".join([ticker(market, self.exchange.clock.stamp()) for market in self.exchange.markets.values()])

    def _instruments(self, call: Call) -> str:
        if not _spot(call):
            return ""
        wanted = call.query.get("instId")
        if wanted is not None and wanted not in self.symbols:
            raise RefusalError("Instrument ID doesn't exist", 51001)
        instruments = self.exchange.instruments.values()
        return ",".join([_instrument(number, i) for number, i in enumerate(instruments) if wanted in {None, native(i)}])

    def _time(self, call: Call) -> str:
        return f'{{"ts":"{self.exchange.clock.stamp() // 1000}"}}'

    def _market(self, call: Call) -> Market:
        name = call.query.get("instId", "")
        if not name:
            raise RefusalError("Parameter instId can not be empty", 50014)
        market = self.exchange.market(self.symbols.get(name, ""), asked=True)
        if market is None:
            raise RefusalError("Instrument ID doesn't exist", 51001)
        return market


def _error(code: int, message: str, status: int = 200) -> Answer:
    return Answer.json({"code": str(code), "msg": message, "data": []}, status)


def _spot(call: Call) -> bool:
    kind = call.query.get("instType")
    if kind not in {"SPOT", "MARGIN", "SWAP", "FUTURES", "OPTION"}:
        raise RefusalError("Parameter instType error", 51000)
    return kind == "SPOT"


def _integer(call: Call, name: str, default: int, most: int = 1 << 62) -> int:
    text = call.query.get(name) or str(default)
    if not text.lstrip("-").isdecimal():
        raise RefusalError(f"Parameter {name} error", 51000)
    return min(int(text), most)


def _trade_rows(market: Market, trades: list[Trade]) -> str:
    text = market.instrument.amount_text
    return ",".join([f"{{{fields(market.instrument, trade, text(trade.lots))}}}" for trade in reversed(trades)])


def _instrument(number: int, instrument: Instrument) -> str:
    """One row of public/instruments: the keys of spot, alphabetical, empty where they belong to derivatives."""
    row = dict.fromkeys(
        ("alias", "auctionEndTime", "baseCcy", "category", "contTdSwTime", "ctMult", "ctType", "ctVal", "ctValCcy", "expTime",
         "instFamily", "instId", "instIdCode", "instType", "lever", "listTime", "lotSz", "maxLmtSz", "maxMktSz", "minSz",
         "openType", "optType", "quoteCcy", "ruleType", "settleCcy", "state", "stk", "tickSz", "uly"), "",
    )  # fmt: skip
    values: dict[str, object] = {
        "baseCcy": instrument.base,
        "category": "1",
        "instId": native(instrument),
        "instIdCode": 10_000 + number,
        "instType": "SPOT",
        "listTime": "1548133413000",
        "lotSz": instrument.lot,
        "maxLmtSz": "9999999999",
        "maxMktSz": "1000000",
        "minSz": instrument.lot,
        "quoteCcy": instrument.quote,
        "ruleType": "normal",
        "state": instrument.state or "live",
        "tickSz": instrument.tick,
    }
    return orjson.dumps(row | values).decode()
