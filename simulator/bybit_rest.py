"""Bybit spot: public REST, /v5/market, one count of calls per address."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING

from simulator.bybit_feeds import WHOLE, OrderBook, crossed, native, ticker, trade_id
from simulator.instruments import Instrument
from simulator.limits import FixedWindow
from simulator.market import Market
from simulator.venue import Answer, Call, RefusalError

if TYPE_CHECKING:
    from simulator.exchange import Exchange

CATEGORIES = ("spot", "linear", "inverse", "option")


class Rest:
    """The calls a collector makes, for one exchange."""

    def __init__(self, exchange: Exchange, symbols: Mapping[str, str]) -> None:
        self.exchange = exchange
        self.symbols = symbols
        self._windows: dict[str, FixedWindow] = {}
        self._routes: dict[str, Callable[[Call], object]] = {
            "instruments-info": self._instruments,
            "recent-trade": self._recent_trade,
            "orderbook": lambda call: self._book(call, "1000", 1000),
            "full_orderbook": lambda call: self._book(call, "full", WHOLE),
            "tickers": self._tickers,
            "time": self._time,
        }

    def answer(self, call: Call, now: float) -> Answer:
        """An envelope of retCode, retMsg and result."""
        facts = self.exchange.facts
        window = self._windows.setdefault(call.address, FixedWindow(facts.rest, facts.rest_window))
        if not window.take(now):
            self.exchange.limited["rest"] += 1
            return Answer("access too frequent", 403, content_type="text/plain")
        handler = self._routes.get(call.path.removeprefix("/v5/market/"))
        if handler is None:
            return Answer("404 page not found", 404, content_type="text/plain")
        try:
            return self.envelope(0, "OK", handler(call))
        except RefusalError as error:
            return self.envelope(error.code, error.text, {})

    def envelope(self, code: int, message: str, result: object, status: int = 200) -> Answer:
        time = self.exchange.clock.stamp() // 1000
        body = {"retCode": code, "retMsg": message, "result": result, "retExtInfo": {}, "time": time}
        return Answer.json(body, status)

    def _instruments(self, call: Call) -> object:
        """Spot is one page, without a cursor."""
        _category(call)
        wanted, state = call.query.get("symbol"), call.query.get("status")
        listed = [_instrument(number, i) for number, i in enumerate(self.exchange.instruments.values(), 9)]
        rows = [row for row in listed if wanted in {None, row["symbol"]} and state in {None, row["status"]}]
        return {"category": "spot", "list": rows}

    def _recent_trade(self, call: Call) -> object:
        """The last sixty at most, newest first; there is no way to older ones."""
        market = self._market(call)
        trades = market.recent(_integer(call, "limit", 60, 60))
        price, amount, seq = market.instrument.price_text, market.instrument.amount_text, crossed(trades)
        rows = [
            {
                "execId": str(trade_id(t)),
                "symbol": native(market.instrument),
                "price": price(t.ticks),
                "size": amount(t.lots),
                "side": "Buy" if t.buyer else "Sell",
                "time": str(t.time // 1000),
                "isBlockTrade": False,
                "isRPITrade": False,
                "seq": str(seq[t.time]),
            }
            for t in reversed(trades)
        ]
        return {"category": "spot", "list": rows}

    def _book(self, call: Call, topic: str, most: int) -> object:
        """The book under the `u` of the topic that has as many levels: who listens has all of it by then."""
        market = self._market(call)
        depth = _integer(call, "limit", 1 if most < WHOLE else most, most)
        name = native(market.instrument)
        feed = self.exchange.settle(f"orderbook.{topic}.{name}")
        sequence, book = self.exchange.snapshot(market)
        time = self.exchange.clock.stamp() // 1000
        update = (feed.update if isinstance(feed, OrderBook) else market.sequence) - (market.sequence - sequence)
        price, amount = market.instrument.price_text, market.instrument.amount_text
        bids, asks = (
            [[price(ticks), amount(lots)] for ticks, lots in book.top(side, depth)] for side in (book.bids, book.asks)
        )
        return {"s": name, "a": asks, "b": bids, "ts": time, "u": update, "seq": sequence, "cts": time}

    def _tickers(self, call: Call) -> object:
        """One market, or those that are alive."""
        _category(call)
        markets = [self._market(call)] if call.query.get("symbol") else list(self.exchange.markets.values())
        return {"category": "spot", "list": [_ticker_row(market) for market in markets]}

    def _time(self, call: Call) -> object:
        stamp = self.exchange.clock.stamp()
        return {"timeSecond": str(stamp // 1_000_000), "timeNano": f"{stamp}000"}

    def _market(self, call: Call) -> Market:
        _category(call)
        market = self.exchange.market(self.symbols.get(call.query.get("symbol", ""), ""), asked=True)
        if market is None:
            raise RefusalError("Not supported symbols", 10001)
        return market


def _category(call: Call) -> None:
    """Only spot has markets here."""
    category = call.query.get("category", "")
    if category not in CATEGORIES:
        raise RefusalError("params error: category is invalid", 10001)
    if category != "spot":
        raise RefusalError("Not supported symbols", 10001)


def _integer(call: Call, name: str, default: int, most: int) -> int:
    text = call.query.get(name) or str(default)
    if not text.isdecimal() or not int(text):
        raise RefusalError(f"params error: {name} is invalid", 10001)
    return min(int(text), most)


def _instrument(number: int, instrument: Instrument) -> dict[str, object]:
    """One row of instruments-info: the keys of spot."""
    quantity = {"basePrecision": instrument.lot, "quotePrecision": "0.0000001", "minOrderQty": instrument.lot}
    most = dict.fromkeys(("maxOrderQty", "minOrderAmt", "maxOrderAmt", "maxLimitOrderQty", "maxMarketOrderQty"), "1000000")
    return {
        "symbolId": number,
        "symbol": native(instrument),
        "baseCoin": instrument.base,
        "quoteCoin": instrument.quote,
        "innovation": "0",
        "status": instrument.state or "Trading",
        "marginTrading": "utaOnly",
        "stTag": "0",
        "lotSizeFilter": quantity | most | {"minOrderAmt": "5", "postOnlyMaxLimitOrderSize": "1000000"},
        "priceFilter": {"tickSize": instrument.tick},
        "riskParameters": {"priceLimitRatioX": "0.005", "priceLimitRatioY": "0.01"},
        "symbolType": "",
        "xstockMultiplier": "1",
    }


def _ticker_row(market: Market) -> dict[str, str]:
    book, price, amount = market.book, market.instrument.price_text, market.instrument.amount_text
    bid, ask = book.bids[-1], book.asks[-1]
    best = {"bid1Price": price(bid), "bid1Size": amount(book.levels[bid])}
    best |= {"ask1Price": price(-ask), "ask1Size": amount(book.levels[ask])}
    return {"symbol": native(market.instrument), **best, **ticker(market)}
