"""Bitrue spot: public REST, /api/v1, weighed per address. An early copy of another exchange's, with its own numbers."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from itertools import groupby
from typing import TYPE_CHECKING

from simulator.bitrue_feeds import native
from simulator.instruments import Instrument, shortest, signed
from simulator.limits import FixedWindow
from simulator.market import Candle, Market, Trade
from simulator.venue import Answer, Call, RefusalError

if TYPE_CHECKING:
    from simulator.exchange import Exchange

HOUR = 3_600_000
DEPTHS = {5: 1, 10: 1, 20: 1, 50: 1, 100: 1, 500: 5, 1000: 10}  # limit, weight
SCALES = {"1m": 1, "5m": 5, "15m": 15, "30m": 30, "1H": 60, "2H": 120, "4H": 240, "12H": 720, "1D": 1440}
REFUSED_BEFORE_BAN = 10  # calls made into a 429 before it becomes a 418


class Rest:
    """The calls a collector makes, for one exchange."""

    def __init__(self, exchange: Exchange, symbols: Mapping[str, str]) -> None:
        self.exchange = exchange
        self.symbols = symbols
        self._windows: dict[str, FixedWindow] = {}
        self._refused: dict[str, int] = {}
        self._routes: dict[str, tuple[int, Callable[[Call], object]]] = {
            "ping": (1, lambda _call: {}),
            "time": (1, lambda _call: {"serverTime": self._now()}),
            "exchangeInfo": (1, self._exchange_info),
            "depth": (1, self._depth),
            "trades": (1, self._trades),
            "historicalTrades": (5, self._historical_trades),
            "aggTrades": (1, self._aggregate_trades),
            "market/kline": (1, self._klines),
            "ticker/24hr": (1, lambda call: self._each(call, self._day)),
            "ticker/bookTicker": (1, lambda call: self._each(call, _best)),
            "ticker/price": (1, lambda call: self._each(call, _price)),
        }

    def answer(self, call: Call, now: float) -> Answer:
        """Weigh the call, then answer it. A 429 that is ignored becomes a 418."""
        path = call.path.removeprefix("/api/v1/")
        route = self._routes.get(path)
        if route is None or call.method != "GET":
            return Answer("<html><body><h1>404 Not Found</h1></body></html>", 404, content_type="text/html")
        weight, handler = route
        limit = call.query.get("limit", "100")
        if path == "depth" and limit.isdecimal():
            weight = DEPTHS.get(int(limit), 1)
        elif path == "ticker/24hr" and "symbol" not in call.query:
            weight = 40
        facts = self.exchange.facts
        window = self._windows.setdefault(call.address, FixedWindow(facts.rest, facts.rest_window))
        if not window.take(now, weight):
            self.exchange.limited["rest"] += 1
            self._refused[call.address] = self._refused.get(call.address, 0) + 1
            status = 418 if self._refused[call.address] > REFUSED_BEFORE_BAN else 429
            headers = {"rate_limit_p": "general", "Retry-After": str(1 + int(window.resets_in(now)))}
            return Answer.json({"code": -1003, "msg": "Too many requests."}, status, headers)
        self._refused.pop(call.address, None)
        try:
            return Answer.json(handler(call))
        except RefusalError as error:
            return Answer.json({"code": error.code, "msg": error.text}, 401 if error.code == -1022 else 412)

    def _now(self) -> int:
        return self.exchange.clock.stamp() // 1000

    def _exchange_info(self, call: Call) -> object:
        limit = {
            "id": "general",
            "type": ["IP"],
            "replenishRate": self.exchange.facts.rest,
            "burstCapacity": self.exchange.facts.rest,
            "timeCount": 1,
            "timeUnit": "MINUTES",
            "refreshType": "FIRST_REQUEST",
            "weight": 1,
            "dynamicWeight": False,
            "overrideLevel": False,
            "dynamicWeightType": None,
        }
        rows = [_symbol(instrument) for instrument in self.exchange.instruments.values()]
        info = {"timezone": "UTC", "serverTime": self._now(), "rateLimits": [limit], "exchangeFilters": []}
        return info | {"symbols": rows, "coins": []}

    def _depth(self, call: Call) -> object:
        """Levels of three items. `lastUpdateId` is a time, no sequence (section 7)."""
        market = self._market(call)
        limit = _integer(call, "limit", 100)
        if limit not in DEPTHS:
            raise RefusalError("Illegal characters found in parameter 'limit'.", -1100)
        _, book = self.exchange.snapshot(market)
        price, amount = market.instrument.price_text, market.instrument.amount_text
        bids, asks = (
            [[price(ticks), amount(lots), []] for ticks, lots in book.top(side, limit)] for side in (book.bids, book.asks)
        )
        return {"lastUpdateId": self._now(), "bids": bids, "asks": asks}

    def _trades(self, call: Call) -> object:
        market = self._market(call)
        return [_trade(market.instrument, trade) for trade in market.recent(_integer(call, "limit", 100, 1000))]

    def _historical_trades(self, call: Call) -> object:
        market = self._market(call)
        if "X-MBX-APIKEY" not in call.headers:
            raise RefusalError("You are not authorized to execute this request.", -1022)
        limit, first = _integer(call, "limit", 100, 1000), _integer(call, "fromId", -1)
        trades = market.since(first, limit) if first >= 0 else market.recent(limit)
        return [_trade(market.instrument, trade) for trade in trades]

    def _aggregate_trades(self, call: Call) -> object:
        """By id or by less than an hour of time. `m` says nothing (section 8)."""
        market = self._market(call)
        first, begin, end = (_integer(call, name, -1) for name in ("fromId", "startTime", "endTime"))
        if begin >= 0 and end >= 0 and end - begin >= HOUR:
            raise RefusalError("More than 1 hours between startTime and endTime.", -1127)
        limit = _integer(call, "limit", 500, 1000)
        rows = [list(fills) for _, fills in groupby(market.trades, key=lambda trade: trade.group)]
        rows = [fills for fills in rows if fills[0].group >= first and begin <= fills[-1].time // 1000]
        rows = [fills for fills in rows if end < 0 or fills[-1].time // 1000 <= end]
        chosen = rows[:limit] if first >= 0 or begin >= 0 else rows[-limit:]
        return [_aggregate(market.instrument, fills) for fills in chosen]

    def _klines(self, call: Call) -> object:
        market = self._market(call)
        scale = call.query.get("scale", "")
        if scale not in SCALES:
            raise RefusalError("Invalid interval.", -1120)
        candles = market.candles(SCALES[scale], self.exchange.clock.stamp())
        first = _integer(call, "fromIdx", 0)
        chosen = [candle for candle in candles if candle.start // 1_000_000 >= first]
        rows = [_candle(market.instrument, candle) for candle in chosen[-_integer(call, "limit", 1440, 1440) :]]
        name = f"KLINE_{scale.upper()}IN" if scale.endswith("m") else f"KLINE_{scale}"
        return {"symbol": native(market.instrument).upper(), "scale": name, "data": rows}

    def _each(self, call: Call, row: Callable[[Market], dict[str, object]]) -> object:
        """One row for the symbol that is asked for; without one, a row for every market that is alive."""
        if "symbol" in call.query:
            return row(self._market(call))
        return [row(market) for market in self.exchange.markets.values()]

    def _day(self, market: Market) -> dict[str, object]:
        i, day, book, now = market.instrument, market.day, market.book, self._now()
        price, decimals = i.price_text, i.price_decimals + i.amount_decimals
        last = market.trades[-1].lots if market.trades else 0
        return {
            "symbol": native(i).upper(),
            "priceChange": signed(price, day.close - day.open),
            "priceChangePercent": f"{(day.close - day.open) / day.open * 100:.3f}",
            "weightedAvgPrice": price(day.turnover // day.volume if day.volume else day.close),
            "prevClosePrice": price(day.open),
            "lastPrice": price(day.close),
            "lastQty": i.amount_text(last),
            "bidPrice": price(book.bids[-1]),
            "askPrice": price(-book.asks[-1]),
            "openPrice": price(day.open),
            "highPrice": price(day.high),
            "lowPrice": price(day.low),
            "volume": i.amount_text(day.volume),
            "quoteVolume": shortest(day.turnover, decimals),
            "openTime": now - 86_400_000,
            "closeTime": now,
            "firstId": day.first,
            "lastId": day.last,
            "count": day.trades,
        }

    def _market(self, call: Call) -> Market:
        name = call.query.get("symbol", "")
        if not name:
            raise RefusalError("Mandatory parameter 'symbol' was not sent, was empty/null, or malformed.", -1102)
        market = self.exchange.market(self.symbols.get(name, ""), asked=True)
        if market is None:
            raise RefusalError("Invalid symbol.", -1121)
        return market


def _integer(call: Call, name: str, default: int, most: int = 1 << 62) -> int:
    text = call.query.get(name)
    if text is None:
        return default
    if not text.isdecimal():
        raise RefusalError(f"Illegal characters found in parameter '{name}'.", -1100)
    return min(int(text), most)


def _best(market: Market) -> dict[str, object]:
    i, book = market.instrument, market.book
    bid, ask = book.bids[-1], book.asks[-1]
    bids = {"bidPrice": i.price_text(bid), "bidQty": i.amount_text(book.levels[bid])}
    asks = {"askPrice": i.price_text(-ask), "askQty": i.amount_text(book.levels[ask])}
    return {"symbol": native(i).upper(), **bids, **asks}


def _price(market: Market) -> dict[str, object]:
    return {"symbol": native(market.instrument).upper(), "price": market.instrument.price_text(market.day.close)}


def _trade(instrument: Instrument, trade: Trade) -> dict[str, object]:
    return {
        "id": trade.id,
        "price": instrument.price_text(trade.ticks),
        "qty": instrument.amount_text(trade.lots),
        "time": trade.time // 1000,
        "isBuyerMaker": not trade.buyer,
        "isBestMatch": True,
    }


def _aggregate(instrument: Instrument, fills: list[Trade]) -> dict[str, object]:
    first, last = fills[0], fills[-1]
    ids = {"a": first.group, "p": instrument.price_text(first.ticks), "q": instrument.amount_text(sum(t.lots for t in fills))}
    return {**ids, "f": first.id, "l": last.id, "T": last.time // 1000, "m": True, "M": True}


def _candle(instrument: Instrument, candle: Candle) -> dict[str, object]:
    price, seconds = instrument.price_text, candle.start // 1_000_000
    turnover = shortest(candle.turnover, instrument.price_decimals + instrument.amount_decimals)
    volumes = {"a": turnover, "v": instrument.amount_text(candle.volume)}
    prices = {key: price(p) for key, p in zip("chlo", (candle.close, candle.high, candle.low, candle.open), strict=True)}
    return {"i": seconds, "is": seconds * 1000, **volumes, **prices}


def _symbol(instrument: Instrument) -> dict[str, object]:
    """One entry of exchangeInfo; the names of assets are in lower case (section 2)."""
    return {
        "symbol": native(instrument).upper(),
        "status": instrument.state or "TRADING",
        "baseAsset": instrument.base.lower(),
        "baseAssetPrecision": instrument.amount_decimals,
        "quoteAsset": instrument.quote.lower(),
        "quotePrecision": instrument.price_decimals,
        "orderTypes": ["LIMIT", "MARKET"],
        "icebergAllowed": False,
        "filters": [
            {
                "filterType": "PRICE_FILTER",
                "minPrice": instrument.tick,
                "maxPrice": instrument.price_text(instrument.price * 100),
                "tickSize": instrument.tick,
                "priceScale": instrument.price_decimals,
            },
            {
                "filterType": "PERCENT_PRICE_BY_SIDE",
                "bidMultiplierUp": "1.3",
                "bidMultiplierDown": "0.1",
                "askMultiplierUp": "10.0",
                "askMultiplierDown": "0.7",
                "avgPriceMins": "1",
            },
            {
                "filterType": "LOT_SIZE",
                "minQty": instrument.lot,
                "minVal": "10.0",
                "maxQty": "999999999999999",
                "stepSize": instrument.lot,
                "volumeScale": instrument.amount_decimals,
            },
        ],
    }
