"""KuCoin spot: public REST, one pool of weight per address, and the tokens that let a WebSocket in."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING

from simulator.instruments import Instrument
from simulator.kucoin_feeds import TYPES, candle_row, group, native, ticker, trade_id
from simulator.limits import FixedWindow
from simulator.market import Market
from simulator.venue import Answer, Call, RefusalError

if TYPE_CHECKING:
    from simulator.exchange import Exchange

SOCKET = "ws-api-spot.kucoin.com"
TOKENS = 10_000  # unused tokens kept
SIGNED = "Please check the header of your request for KC-API-KEY, KC-API-SIGN, KC-API-TIMESTAMP, KC-API-PASSPHRASE"


class Rest:
    """The calls a collector makes, for one exchange."""

    def __init__(self, exchange: Exchange, symbols: Mapping[str, str]) -> None:
        self.exchange = exchange
        self.symbols = symbols
        self._windows: dict[str, FixedWindow] = {}
        self._tokens: dict[str, float] = {}
        self._routes: dict[tuple[str, str], tuple[int, Callable[[Call], object]]] = {
            ("POST", "/api/v1/bullet-public"): (10, self._bullet),
            ("GET", "/api/v1/symbols"): (4, lambda _call: [_symbol(i, old=True) for i in self.exchange.instruments.values()]),
            ("GET", "/api/v2/symbols"): (4, self._symbols),
            ("GET", "/api/v1/timestamp"): (3, lambda _call: self.exchange.clock.stamp() // 1000),
            ("GET", "/api/v1/status"): (3, lambda _call: {"status": "open", "msg": ""}),
            ("GET", "/api/v1/market/orderbook/level2_20"): (2, lambda call: self._book(call, 20)),
            ("GET", "/api/v1/market/orderbook/level2_100"): (4, lambda call: self._book(call, 100)),
            ("GET", "/api/v3/market/orderbook/level2"): (3, self._signed),
            ("GET", "/api/v1/market/orderbook/level1"): (2, self._level1),
            ("GET", "/api/v1/market/histories"): (3, self._histories),
            ("GET", "/api/v1/market/candles"): (3, self._candles),
            ("GET", "/api/v1/market/allTickers"): (15, self._all_tickers),
        }

    def answer(self, call: Call, now: float) -> Answer:
        """An envelope of code and data; what is left of the pool is in the headers."""
        route = self._routes.get((call.method, call.path))
        if route is None:
            return _error(404000, "Url Not Found", 404)
        weight, handler = route
        facts = self.exchange.facts
        window = self._windows.setdefault(call.address, FixedWindow(facts.rest, facts.rest_window))
        allowed = window.take(now, weight)
        try:
            answer = (
                Answer.json({"code": "200000", "data": handler(call)}) if allowed else _error(429000, "Too many requests", 429)
            )
        except RefusalError as error:
            answer = _error(error.code, error.text, 401 if error.code == 400001 else 200)
        if not allowed:
            self.exchange.limited["rest"] += 1
        answer.headers |= {
            "gw-ratelimit-limit": str(window.limit),
            "gw-ratelimit-remaining": str(window.limit - window.used if allowed else 0),
            "gw-ratelimit-reset": str(int(window.resets_in(now) * 1000)),
        }
        return answer

    def redeem(self, token: str, now: float) -> bool:
        """Use up a token; False when it is unknown, used or too old."""
        return self._tokens.pop(token, 0.0) > now

    def _bullet(self, call: Call) -> object:
        now, facts = self.exchange.clock.now(), self.exchange.facts
        token = f"2neAiuYv{self.exchange.identities.getrandbits(256):064x}"
        if len(self._tokens) >= TOKENS:
            self._tokens.pop(next(iter(self._tokens)))
        self._tokens[token] = now + (facts.token or 86_400.0)
        address = f"ws{call.base.removeprefix('http')}/{SOCKET}/" if call.base else f"wss://{SOCKET}/"
        ping = int((facts.idle or 60.0) * 300)  # 18 s of the 60 s after which a silent client is cut off
        server = {
            "endpoint": address,
            "encrypt": address.startswith("wss"),
            "protocol": "websocket",
            "pingInterval": ping,
            "pingTimeout": 10000,
        }
        return {"token": token, "instanceServers": [server]}

    def _symbols(self, call: Call) -> object:
        wanted = call.query.get("market")
        return [_symbol(i, old=False) for i in self.exchange.instruments.values() if wanted in {None, group(i)}]

    def _signed(self, call: Call) -> object:
        raise RefusalError(SIGNED, 400001)

    def _book(self, call: Call, depth: int) -> object:
        market = self._market(call)
        sequence, book = self.exchange.snapshot(market)
        price, amount = market.instrument.price_text, market.instrument.amount_text
        bids, asks = (
            [[price(ticks), amount(lots)] for ticks, lots in book.top(side, depth)] for side in (book.bids, book.asks)
        )
        return {"time": self.exchange.clock.stamp() // 1000, "sequence": str(sequence), "bids": bids, "asks": asks}

    def _level1(self, call: Call) -> object:
        market = self._market(call)
        return {"time": self.exchange.clock.stamp() // 1000, **ticker(market)}

    def _histories(self, call: Call) -> object:
        """The last hundred, no paging."""
        market = self._market(call)
        price, amount = market.instrument.price_text, market.instrument.amount_text
        return [
            {
                "sequence": str(trade_id(trade)),
                "price": price(trade.ticks),
                "size": amount(trade.lots),
                "side": "buy" if trade.buyer else "sell",
                "time": trade.time * 1000,
            }
            for trade in market.recent(100)
        ]

    def _candles(self, call: Call) -> object:
        market = self._market(call)
        kind = call.query.get("type", "")
        if kind not in TYPES:
            raise RefusalError("type is invalid", 400100)
        begin, end = _integer(call, "startAt", 0), _integer(call, "endAt", 1 << 62) or 1 << 62
        candles = market.candles(TYPES[kind], self.exchange.clock.stamp())
        chosen = [c for c in candles if begin <= c.start // 1_000_000 < end and c.trades]
        return [candle_row(market.instrument, candle) for candle in reversed(chosen[-1500:])]

    def _all_tickers(self, call: Call) -> object:
        """Of the markets that are alive."""
        rows = [_ticker_row(market) for market in self.exchange.markets.values()]
        return {"time": self.exchange.clock.stamp() // 1000, "ticker": rows}

    def _market(self, call: Call) -> Market:
        name = call.query.get("symbol", "")
        if not name:
            raise RefusalError("symbol can not be empty", 400100)
        market = self.exchange.market(self.symbols.get(name, ""), asked=True)
        if market is None:
            raise RefusalError("symbol not exists", 200003)
        return market


def _error(code: int, message: str, status: int) -> Answer:
    return Answer.json({"code": str(code), "msg": message}, status)


def _integer(call: Call, name: str, default: int) -> int:
    text = call.query.get(name, str(default))
    if not text.isdecimal():
        raise RefusalError(f"{name} is invalid", 400100)
    return int(text)


def _symbol(instrument: Instrument, *, old: bool) -> dict[str, object]:
    name = native(instrument)
    row: dict[str, object] = {
        "symbol": name,
        "name": name,
        "baseCurrency": instrument.base,
        "quoteCurrency": instrument.quote,
        "feeCurrency": instrument.quote,
        "market": group(instrument),
        "baseMinSize": instrument.lot,
        "quoteMinSize": "0.1",
        "baseMaxSize": "10000000000",
        "quoteMaxSize": "99999999",
        "baseIncrement": instrument.lot,
        "quoteIncrement": "0.000001",
        "priceIncrement": instrument.tick,
        "priceLimitRate": "0.1",
    }
    if not old:
        row |= {"minFunds": "0.1"}
    row |= {"isMarginEnabled": False, "enableTrading": not instrument.state}
    if not old:
        row |= {"feeCategory": 1, "makerFeeCoefficient": "1.00", "takerFeeCoefficient": "1.00", "st": False}
        row |= {"callauctionIsEnabled": False, "tradingStartTime": None}
    return row


def _ticker_row(market: Market) -> dict[str, object]:
    day, best, price = market.day, ticker(market), market.instrument.price_text
    return {
        "symbol": native(market.instrument),
        "symbolName": native(market.instrument),
        "buy": best["bestBid"],
        "bestBidSize": best["bestBidSize"],
        "sell": best["bestAsk"],
        "bestAskSize": best["bestAskSize"],
        "high": price(day.high),
        "low": price(day.low),
        "vol": market.instrument.amount_text(day.volume),
        "last": price(day.close),
    }
