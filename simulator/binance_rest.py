"""Binance spot: REST /api/v3, weighed per address."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from itertools import groupby
from typing import TYPE_CHECKING, Any

import orjson

from simulator.binance_feeds import MINUTES, AggregateTrades, day_of, kline_of, native
from simulator.instruments import Instrument, rescaled
from simulator.limits import FixedWindow
from simulator.market import Market, Trade
from simulator.venue import Answer, Call, RefusalError

if TYPE_CHECKING:
    from simulator.exchange import Exchange

REFUSED_BEFORE_BAN = 10  # calls made into a 429 before it becomes a 418
Handler = Callable[[Call, int], Answer]


class Rest:
    """The calls a collector makes, for one exchange. Handlers get the call and the unit of its times in microseconds."""

    def __init__(self, exchange: Exchange, symbols: Mapping[str, str]) -> None:
        self.exchange = exchange
        self.symbols = symbols
        self._weights: dict[str, FixedWindow] = {}
        self._banned: dict[str, float] = {}
        self._ignored: dict[str, int] = {}
        self.routes: dict[str, tuple[int, Handler]] = {
            "/api/v3/ping": (1, lambda _call, _unit: Answer("{}")),
            "/api/v3/time": (1, lambda _call, unit: Answer.json({"serverTime": self.exchange.clock.stamp() // unit})),
            "/api/v3/exchangeInfo": (20, self._exchange_info),
            "/api/v3/depth": (5, self._depth),
            "/api/v3/trades": (25, self._trades),
            "/api/v3/historicalTrades": (25, self._historical_trades),
            "/api/v3/aggTrades": (4, self._aggregate_trades),
            "/api/v3/klines": (2, self._klines),
            "/api/v3/ticker/24hr": (2, self._ticker),
            "/api/v3/ticker/bookTicker": (2, self._book_ticker),
            "/api/v3/ticker/price": (2, self._price),
        }
        self.depth_weights = ((100, 5), (500, 25), (1000, 50), (5000, 250))  # up to a limit
        self.all_weights = {"/api/v3/ticker/24hr": 80, "/api/v3/ticker/bookTicker": 4, "/api/v3/ticker/price": 4}

    def answer(self, call: Call, now: float) -> Answer:
        """Weigh the call, then answer it. A 429 that is ignored becomes a 418."""
        route = self.routes.get(call.path)
        if route is None or call.method != "GET" or (call.host.endswith(".vision") and call.path.endswith("/historicalTrades")):
            return Answer("<html><body><h2>404 Not found</h2></body></html>", 404, content_type="text/html")
        weight, handler = route
        if call.path == "/api/v3/depth":
            limit = call.query.get("limit", "100")
            weights = (w for top, w in self.depth_weights if not limit.isdecimal() or int(limit) <= top)
            weight = next(weights, self.depth_weights[-1][1])
        elif "symbol" not in call.query:
            weight = self.all_weights.get(call.path, weight)
        facts = self.exchange.facts
        window = self._weights.setdefault(call.address, FixedWindow(facts.rest, facts.rest_window))
        if now < self._banned.get(call.address, 0.0) or not window.take(now, weight):
            return self._throttled(call.address, window, now)
        self._ignored.pop(call.address, None)
        unit = 1 if call.headers.get("X-MBX-TIME-UNIT", "").upper() == "MICROSECOND" else 1000
        try:
            answer = handler(call, unit)
        except RefusalError as error:
            answer = Answer.json({"code": error.code, "msg": error.text}, 400)
        used = str(window.used)
        answer.headers |= {"x-mbx-used-weight": used, "x-mbx-used-weight-1m": used}
        return answer

    def _throttled(self, address: str, window: FixedWindow, now: float) -> Answer:
        self.exchange.limited["rest"] += 1
        self._ignored[address] = self._ignored.get(address, 0) + 1
        if self._ignored[address] > REFUSED_BEFORE_BAN and now >= self._banned.get(address, 0.0):
            self._banned[address] = now + 2 * window.period
        banned = self._banned.get(address, 0.0) - now
        if banned > 0:
            until = (self.exchange.clock.stamp() + int(banned * 1e6)) // 1000
            text = (
                f"Way too much request weight used; IP banned until {until}. "
                "Please use WebSocket Streams for live updates to avoid bans."
            )
            return Answer.json({"code": -1003, "msg": text}, 418, {"Retry-After": str(1 + int(banned))})
        text = (
            f"Too much request weight used; current limit is {window.limit} request weight per 1 MINUTE. "
            "Please use WebSocket Streams for live updates to avoid polling the API."
        )
        return Answer.json({"code": -1003, "msg": text}, 429, {"Retry-After": str(1 + int(window.resets_in(now)))})

    def _exchange_info(self, call: Call, unit: int) -> Answer:
        query = call.query
        if "symbols" in query or "symbol" in query:
            names = _names(query["symbols"]) if "symbols" in query else [query["symbol"]]
            wanted = [self._asked(name).instrument for name in names]
        else:
            wanted = list(self.exchange.instruments.values())
        sets = query.get("showPermissionSets", "true") != "false"
        rows = [_symbol(instrument, sets) for instrument in wanted]
        if "symbolStatus" in query:
            rows = [row for row in rows if row["status"] == query["symbolStatus"]]
        limits = [
            {"rateLimitType": "REQUEST_WEIGHT", "interval": "MINUTE", "intervalNum": 1, "limit": self.exchange.facts.rest},
            {"rateLimitType": "RAW_REQUESTS", "interval": "MINUTE", "intervalNum": 5, "limit": 300000},
        ]
        time = self.exchange.clock.stamp() // unit
        return Answer.json(
            {"timezone": "UTC", "serverTime": time, "rateLimits": limits, "exchangeFilters": [], "symbols": rows}
        )

    def _depth(self, call: Call, unit: int) -> Answer:
        market = self._symbol(call)
        limit = min(_integer(call, "limit", 100), 5000)
        sequence, book = self.exchange.snapshot(market)
        price, amount = market.instrument.price_text, market.instrument.amount_text
        bids, asks = (
            ",".join([f'["{price(ticks)}","{amount(lots)}"]' for ticks, lots in book.top(side, limit)])
            for side in (book.bids, book.asks)
        )
        return Answer(f'{{"lastUpdateId":{sequence},"bids":[{bids}],"asks":[{asks}]}}')

    def _trades(self, call: Call, unit: int) -> Answer:
        market = self._symbol(call)
        return _trade_rows(market, market.recent(_integer(call, "limit", 500, 1000)), unit)

    def _historical_trades(self, call: Call, unit: int) -> Answer:
        market = self._symbol(call)
        limit = _integer(call, "limit", 500, 1000)
        first = _integer(call, "fromId", -1)
        return _trade_rows(market, market.since(first, limit) if first >= 0 else market.recent(limit), unit)

    def _aggregate_trades(self, call: Call, unit: int) -> Answer:
        market = self._symbol(call)
        limit = _integer(call, "limit", 500, 1000)
        first, begin, end = (_integer(call, name, -1) for name in ("fromId", "startTime", "endTime"))
        trades = market.recent(4 * limit) if first < 0 and begin < 0 and end < 0 else list(market.trades)
        feed = AggregateTrades("", market, unit=unit)
        rows = [list(fills) for _, fills in groupby(trades, key=lambda trade: trade.group)]
        rows = [fills for fills in rows if fills[0].group >= first and begin <= fills[-1].time // unit]
        rows = [fills for fills in rows if end < 0 or fills[-1].time // unit <= end]
        chosen = rows[:limit] if first >= 0 or begin >= 0 else rows[-limit:]
        return Answer("[" + ",".join([f"{{{feed.body(fills)}}}" for fills in chosen]) + "]")

    def _klines(self, call: Call, unit: int) -> Answer:
        market = self._symbol(call)
        minutes = MINUTES.get(call.query.get("interval", ""))
        if minutes is None:
            raise RefusalError("Invalid interval.", -1120)
        candles = market.candles(minutes, self.exchange.clock.stamp())
        rows = [kline_of(market.instrument, candle, minutes, unit) for candle in candles]
        begin, end = _integer(call, "startTime", 0), _integer(call, "endTime", 1 << 62)
        rows = [row for row in rows if begin <= row[0] <= end]
        limit = _integer(call, "limit", 500, 1000)
        return Answer.json(rows[:limit] if begin else rows[-limit:])

    def _ticker(self, call: Call, unit: int) -> Answer:
        return self._each(call, lambda market: day_of(market, self.exchange.clock.stamp(), unit))

    def _book_ticker(self, call: Call, unit: int) -> Answer:
        names = ("bidPrice", "bidQty", "askPrice", "askQty")
        return self._each(call, lambda market: {name: day_of(market, 0, unit)[name] for name in names})

    def _price(self, call: Call, unit: int) -> Answer:
        return self._each(call, lambda market: {"price": market.instrument.price_text(market.day.close)})

    def _each(self, call: Call, row: Callable[[Market], dict[str, Any]]) -> Answer:
        """One row for the symbol that is asked for; without one, a row for every market that is alive."""
        if "symbol" in call.query:
            market = self._symbol(call)
            return Answer.json({"symbol": native(market.instrument)} | row(market))
        return Answer.json([{"symbol": native(m.instrument)} | row(m) for m in self.exchange.markets.values()])

    def _symbol(self, call: Call) -> Market:
        name = call.query.get("symbol", "")
        if not name:
            raise RefusalError("Mandatory parameter 'symbol' was not sent, was empty/null, or malformed.", -1102)
        return self._asked(name)

    def _asked(self, name: str) -> Market:
        symbol = self.symbols.get(name)
        market = self.exchange.market(symbol, asked=True) if symbol else None
        if market is None:
            raise RefusalError("Invalid symbol.", -1121)
        return market


def _names(text: str) -> list[str]:
    """The JSON list of `symbols`."""
    try:
        names = orjson.loads(text)
    except orjson.JSONDecodeError:
        names = None
    if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
        raise RefusalError("Illegal characters found in parameter 'symbols'.", -1100)
    return names


def _integer(call: Call, name: str, default: int, most: int = 1 << 62) -> int:
    text = call.query.get(name)
    if text is None:
        return default
    if not text.isdecimal():
        raise RefusalError(f"Illegal characters found in parameter '{name}'; legal range is '^[0-9]{{1,20}}$'.", -1100)
    return min(int(text), most)


def _trade_rows(market: Market, trades: list[Trade], unit: int) -> Answer:
    instrument = market.instrument
    decimals = instrument.price_decimals + instrument.amount_decimals
    rows = [
        f'{{"id":{t.id},"price":"{instrument.price_text(t.ticks)}","qty":"{instrument.amount_text(t.lots)}",'
        f'"quoteQty":"{rescaled(t.ticks * t.lots, decimals, 8)}","time":{t.time // unit},'
        f'"isBuyerMaker":{"false" if t.buyer else "true"},"isBestMatch":true}}'
        for t in trades
    ]
    return Answer("[" + ",".join(rows) + "]")


def _symbol(instrument: Instrument, sets: bool) -> dict[str, Any]:
    """One entry of exchangeInfo, with the filters a reader needs."""
    most = rescaled(9_000_000, 0, 8)
    return {
        "symbol": native(instrument),
        "status": instrument.state or "TRADING",
        "baseAsset": instrument.base,
        "baseAssetPrecision": 8,
        "quoteAsset": instrument.quote,
        "quotePrecision": 8,
        "quoteAssetPrecision": 8,
        "baseCommissionPrecision": 8,
        "quoteCommissionPrecision": 8,
        "orderTypes": ["LIMIT", "LIMIT_MAKER", "MARKET", "STOP_LOSS", "STOP_LOSS_LIMIT", "TAKE_PROFIT", "TAKE_PROFIT_LIMIT"],
        "icebergAllowed": True,
        "ocoAllowed": True,
        "quoteOrderQtyMarketAllowed": True,
        "isSpotTradingAllowed": True,
        "isMarginTradingAllowed": False,
        "filters": [
            {"filterType": "PRICE_FILTER", "minPrice": instrument.tick, "maxPrice": most, "tickSize": instrument.tick},
            {"filterType": "LOT_SIZE", "minQty": instrument.lot, "maxQty": most, "stepSize": instrument.lot},
            {"filterType": "NOTIONAL", "minNotional": "5.00000000", "applyMinToMarket": True, "maxNotional": most},
        ],
        "permissions": [],
        "permissionSets": [["SPOT"]] if sets else [],
    }
