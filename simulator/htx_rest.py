"""HTX spot: public REST. Errors come in the body, with HTTP 200."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING

import orjson

from simulator.htx_feeds import DEPTH, STEPS, best_of, day_of, depth, native, orders, row
from simulator.instruments import Instrument
from simulator.limits import FixedWindow
from simulator.market import Market
from simulator.venue import Answer, Call, RefusalError

if TYPE_CHECKING:
    from simulator.exchange import Exchange

FILLS = 8  # trades that are looked through for each order that is asked for


class Rest:
    """The calls a collector makes, for one exchange."""

    def __init__(self, exchange: Exchange, symbols: Mapping[str, str]) -> None:
        self.exchange = exchange
        self.symbols = symbols
        self._windows: dict[str, FixedWindow] = {}
        self._routes: dict[str, Callable[[Call], str]] = {
            "/v1/common/symbols": self._symbols,
            "/v2/settings/common/symbols": self._settings,
            "/v1/common/timestamp": lambda _call: f'"status":"ok","data":{self._time()}',
            "/market/history/trade": self._history_trade,
            "/market/depth": self._depth,
            "/market/tickers": self._tickers,
        }

    def answer(self, call: Call, now: float) -> Answer:
        """An envelope of status and data."""
        route = self._routes.get(call.path)
        if route is None:
            return Answer("404 page not found", 404, content_type="text/plain")
        facts = self.exchange.facts
        if not self._windows.setdefault(call.address, FixedWindow(facts.rest, facts.rest_window)).take(now):
            self.exchange.limited["rest"] += 1
            return refusal("too-many-requests", "exceeded rate limit", 429)
        try:
            return Answer(f"{{{route(call)}}}")
        except RefusalError as error:
            return refusal("invalid-parameter", error.text, 200)

    def _symbols(self, call: Call) -> str:
        rows = [_symbol(instrument) for instrument in self.exchange.instruments.values()]
        return f'"status":"ok","data":{orjson.dumps(rows).decode()}'

    def _settings(self, call: Call) -> str:
        rows = [_setting(instrument) for instrument in self.exchange.instruments.values()]
        return f'"code":200,"data":{orjson.dumps(rows).decode()}'

    def _history_trade(self, call: Call) -> str:
        """Orders, the newest first, and in each its fills."""
        market, size = self._market(call), _integer(call, "size", 1, 2000)
        rows = []
        for fills in reversed(orders(market.recent(size * FILLS))[-size:]):
            last = fills[-1]
            data = ",".join([row(market.instrument, last, trade, "trade-id") for trade in reversed(fills)])
            rows.append(f'{{"id":{last.sequence},"ts":{last.time // 1000},"data":[{data}]}}')
        return f'{self._head(market, "trade.detail")},"data":[{",".join(rows)}]'

    def _depth(self, call: Call) -> str:
        market, step = self._market(call), call.query.get("type", "")
        most = _integer(call, "depth", DEPTH, DEPTH)
        if step not in STEPS:
            raise RefusalError("invalid type")
        version, book = self.exchange.snapshot(market)
        tick = depth(market, book, version, STEPS[step], self.exchange.clock.stamp(), most)
        return f'{self._head(market, f"depth.{step}")},"tick":{{{tick}}}'

    def _tickers(self, call: Call) -> str:
        """Of the markets that are alive."""
        rows = []
        for market in self.exchange.markets.values():
            fields = ",".join([f'"{name}":{value}' for name, value in (day_of(market) | best_of(market)).items()])
            rows.append(f'{{"symbol":"{native(market.instrument)}",{fields}}}')
        return f'"status":"ok","ts":{self._time()},"data":[{",".join(rows)}]'

    def _head(self, market: Market, channel: str) -> str:
        return f'"ch":"market.{native(market.instrument)}.{channel}","status":"ok","ts":{self._time()}'

    def _time(self) -> int:
        return self.exchange.clock.stamp() // 1000

    def _market(self, call: Call) -> Market:
        market = self.exchange.market(self.symbols.get(call.query.get("symbol", ""), ""), asked=True)
        if market is None:
            raise RefusalError("invalid symbol")
        return market


def refusal(code: str, message: str, status: int) -> Answer:
    return Answer.json({"status": "error", "err-code": code, "err-msg": message, "data": None}, status)


def _integer(call: Call, name: str, default: int, most: int) -> int:
    text = call.query.get(name, str(default))
    if not text.isdecimal() or not 1 <= int(text) <= most:
        raise RefusalError(f"invalid {name}, valid range: [1,{most}]")
    return int(text)


def _symbol(instrument: Instrument) -> dict[str, object]:
    lot = orjson.Fragment(instrument.lot)
    return {
        "base-currency": instrument.base.lower(),
        "quote-currency": instrument.quote.lower(),
        "price-precision": instrument.price_decimals,
        "amount-precision": instrument.amount_decimals,
        "symbol-partition": "main",
        "symbol": native(instrument),
        "state": instrument.state or "online",
        "value-precision": 8,
        "min-order-amt": lot,
        "max-order-amt": 1000000,
        "min-order-value": 5,
        "limit-order-min-order-amt": lot,
        "limit-order-max-order-amt": 1000000,
        "limit-order-max-buy-amt": 1000000,
        "limit-order-max-sell-amt": 1000000,
        "sell-market-min-order-amt": lot,
        "sell-market-max-order-amt": 100000,
        "buy-market-max-order-value": 1000000,
        "api-trading": "enabled",
        "tags": "",
    }


def _setting(instrument: Instrument) -> dict[str, object]:
    """The newer list, of short names."""
    return {
        "sc": native(instrument),
        "bc": instrument.base.lower(),
        "qc": instrument.quote.lower(),
        "state": instrument.state or "online",
        "tpp": instrument.price_decimals,
        "tap": instrument.amount_decimals,
        "minov": 5,
    }
