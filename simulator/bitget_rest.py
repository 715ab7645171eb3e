"""Bitget spot: public REST, /api/v2, each call with its own count a second."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING

from simulator.bitget_feeds import day, native, trade_id
from simulator.instruments import Instrument
from simulator.limits import FixedWindow
from simulator.market import Market, Trade
from simulator.venue import Answer, Call, RefusalError

if TYPE_CHECKING:
    from simulator.exchange import Exchange


class Rest:
    """The calls a collector makes, for one exchange."""

    def __init__(self, exchange: Exchange, symbols: Mapping[str, str]) -> None:
        self.exchange = exchange
        self.symbols = symbols
        self._windows: dict[tuple[str, str], FixedWindow] = {}
        self._routes: dict[str, Callable[[Call], object]] = {
            "public/time": lambda _call: {"serverTime": str(self.exchange.clock.stamp() // 1000)},
            "spot/public/symbols": self._symbols,
            "spot/market/fills": self._fills,
            "spot/market/fills-history": self._fills_history,
            "spot/market/orderbook": self._orderbook,
            "spot/market/tickers": self._tickers,
        }

    def answer(self, call: Call, now: float) -> Answer:
        """An envelope of code, msg, requestTime and data."""
        path = call.path.removeprefix("/api/v2/")
        handler = self._routes.get(path)
        if handler is None:
            return self.envelope("40404", "Request URL NOT FOUND", None, 404)
        facts = self.exchange.facts
        window = self._windows.setdefault((call.address, path), FixedWindow(facts.rest, facts.rest_window))
        if not window.take(now):
            self.exchange.limited["rest"] += 1
            return self.envelope("429", "Too Many Requests", None, 429)
        try:
            return self.envelope("00000", "success", handler(call))
        except RefusalError as error:
            return self.envelope(str(error.code), error.text, None, 400)

    def envelope(self, code: str, message: str, data: object, status: int = 200) -> Answer:
        time = self.exchange.clock.stamp() // 1000
        return Answer.json({"code": code, "msg": message, "requestTime": time, "data": data}, status)

    def _symbols(self, call: Call) -> object:
        wanted = call.query.get("symbol")
        if wanted is not None and wanted not in self.symbols:
            raise RefusalError(f"Parameter {wanted} does not exist", 40034)
        return [_symbol(i) for i in self.exchange.instruments.values() if wanted in {None, native(i)}]

    def _fills(self, call: Call) -> object:
        market = self._market(call)
        return _trade_rows(market, market.recent(_limit(call, 100, 500)))

    def _fills_history(self, call: Call) -> object:
        """The newest below an id and within the times, newest first."""
        market = self._market(call)
        below = _integer(call, "idLessThan", 1 << 62)
        start, end = _integer(call, "startTime", 0), _integer(call, "endTime", 1 << 62)
        trades = [t for t in market.trades if trade_id(t) < below and start <= t.time // 1000 <= end]
        return _trade_rows(market, trades[-_limit(call, 500, 1000) :])

    def _orderbook(self, call: Call) -> object:
        market = self._market(call)
        if call.query.get("type", "step0") != "step0":
            raise RefusalError("Parameter type error", 40020)
        depth = _limit(call, 150, 150)
        _, book = self.exchange.snapshot(market)
        price, amount = market.instrument.price_text, market.instrument.amount_text
        asks, bids = (
            [[price(ticks), amount(lots)] for ticks, lots in book.top(side, depth)] for side in (book.asks, book.bids)
        )
        return {"asks": asks, "bids": bids, "ts": str(self.exchange.clock.stamp() // 1000)}

    def _tickers(self, call: Call) -> object:
        """One market, or those that are alive."""
        markets = [self._market(call)] if call.query.get("symbol") else list(self.exchange.markets.values())
        time = str(self.exchange.clock.stamp() // 1000)
        return [_ticker(market, time) for market in markets]

    def _market(self, call: Call) -> Market:
        name = call.query.get("symbol", "")
        market = self.exchange.market(self.symbols.get(name, ""), asked=True)
        if market is None:
            raise RefusalError(f"Parameter {name} does not exist", 40034)
        return market


def _integer(call: Call, name: str, default: int, most: int = 1 << 62) -> int:
    text = call.query.get(name) or str(default)
    if not text.isdecimal():
        raise RefusalError(f"Parameter {name} error", 40020)
    return min(int(text), most)


def _limit(call: Call, default: int, most: int) -> int:
    return max(1, _integer(call, "limit", default, most))


def _trade_rows(market: Market, trades: list[Trade]) -> list[dict[str, str]]:
    price, amount = market.instrument.price_text, market.instrument.amount_text
    return [
        {
            "symbol": native(market.instrument),
            "tradeId": str(trade_id(t)),
            "side": "buy" if t.buyer else "sell",
            "price": price(t.ticks),
            "size": amount(t.lots),
            "ts": str(t.time // 1000),
        }
        for t in reversed(trades)
    ]


def _ticker(market: Market, time: str) -> dict[str, str]:
    fields = day(market)
    opened, turnover = fields.pop("open24h"), fields["quoteVolume"]
    return {"symbol": native(market.instrument), "open": opened, **fields, "usdtVolume": turnover, "ts": time}


def _symbol(instrument: Instrument) -> dict[str, str]:
    return {
        "symbol": native(instrument),
        "baseCoin": instrument.base,
        "quoteCoin": instrument.quote,
        "minTradeAmount": "0",
        "maxTradeAmount": "10000000000",
        "takerFeeRate": "0.002",
        "makerFeeRate": "0.002",
        "pricePrecision": str(instrument.price_decimals),
        "quantityPrecision": str(instrument.amount_decimals),
        "quotePrecision": "6",
        "status": instrument.state or "online",
        "minTradeUSDT": "1",
        "buyLimitPriceRatio": "0.05",
        "sellLimitPriceRatio": "0.05",
        "areaSymbol": "no",
    }
