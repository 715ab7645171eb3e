"""The dialects of the venues: frames as each sends them (fact sheets, captures), filled with what is true of a market."""

from datetime import UTC, datetime, timedelta
from typing import Any, ClassVar
from zlib import crc32

import pytest
from orjson import Fragment

from adapters import registry
from adapters.adapter import ExchangeAdapter
from adapters.events import Channel
from tests.adapters.dialect import Asked, Dialect, Message, named
from tests.adapters.imaginary_wire import Made
from tests.adapters.market import SHOWN, Deal, Market, Move, Rows, window_move


class Registered(Dialect):
    @property
    def adapter(self) -> type[ExchangeAdapter]:
        return registry.adapter(self.name)


class Binance(Registered):
    name = "binance"
    counts_trades = True
    channels: ClassVar[dict[str, Channel]] = {"trade": "trades", "depth": "orderbooks", "ticker": "tickers"}

    def native(self, symbol: str) -> str:
        return symbol.replace("/", "")

    def read(self, frame: Any) -> Asked:
        natives, streams = zip(*(stream.split("@")[:2] for stream in frame["params"]), strict=True)
        (stream,) = set(streams)
        return Asked(
            "subscribe" if frame["method"] == "SUBSCRIBE" else "unsubscribe",
            self.channels[stream],
            tuple(native.upper() for native in natives),
            str(frame["id"]),
        )

    def acks(self, asked: Asked) -> list[Message]:
        return [{"result": None, "id": int(asked.request)}]

    ended = acks

    def _on(self, stream: str, market: Market, data: dict[str, Any]) -> Message:
        common = {"e": data.pop("e"), "E": self.millis, "s": market.native}
        return {"stream": f"{market.native.lower()}@{stream}", "data": common | data}

    def trades(self, market: Market, deals: list[Deal]) -> list[Message]:
        return [
            self._on(
                "trade",
                market,
                {
                    **{"e": "trade", "t": deal.number, "p": market.price(deal.price), "q": market.amount(deal.amount)},
                    **{"T": self.millis - 1, "m": deal.side == "sell", "M": True},
                },
            )
            for deal in deals
        ]

    def change(self, market: Market, move: Move) -> Message:
        rows = {"b": market.rows(move.bids), "a": market.rows(move.asks)}
        return self._on("depth@100ms", market, {"e": "depthUpdate", "U": move.first, "u": move.last} | rows)

    def ticker(self, market: Market) -> Message:
        ours = {"c": market.price(market.last_price), "b": market.price(market.best_bid), "a": market.price(market.best_ask)}
        sizes = {"Q": "10", "B": "1.5", "A": "2", "v": "10000", "q": "990000", "n": 18151}
        return self._on("ticker", market, {"e": "24hrTicker", "p": "0.15", "w": "99.1", "o": "99", "h": "101"} | ours | sizes)

    def others(self) -> list[Message]:
        mini = {"e": "24hrMiniTicker", "E": self.millis, "s": "BTCUSDT", "c": "99.5", "v": "10"}
        candle = {"e": "kline", "E": self.millis, "s": "BTCUSDT", "k": {"t": 1, "T": 2, "o": "1", "x": False}}
        best = {"u": 400900217, "s": "BTCUSDT", "b": "25.35", "B": "31.21", "a": "25.36", "A": "40.66"}
        view = {"lastUpdateId": 160, "bids": [["0.0024", "10"]], "asks": [["0.0026", "100"]]}
        return [
            {"stream": "btcusdt@bookTicker", "data": best},
            {"stream": "btcusdt@depth5", "data": view},
            {"stream": "btcusdt@kline_1m", "data": candle},
            {"stream": "!miniTicker@arr", "data": [mini]},
            {"error": {"code": 2, "msg": "Invalid request: unknown variant"}, "id": None},
            {"result": ["btcusdt@trade"], "id": 3000},
        ]

    def answer(self, path: str, native: str) -> Message:
        market = self.markets[native]
        bids, asks = market.best(100)
        return {"lastUpdateId": market.sequence, "bids": market.rows(bids), "asks": market.rows(asks)}

    def answers(self) -> dict[tuple[str, ...], Message]:
        steps = [{"filterType": "PRICE_FILTER", "tickSize": "0.01"}, {"filterType": "LOT_SIZE", "stepSize": "0.00001"}]
        listed = {"symbol": "BTCUSDT", "status": "TRADING", "baseAsset": "BTC", "quoteAsset": "USDT", "filters": steps}
        row = {"id": 28457, "price": "4.00000100", "qty": "12.0", "time": 1499865549590, "isBuyerMaker": True}
        merged = {"a": 26129, "p": "0.01633102", "q": "4.70443515", "f": 27781, "l": 27781, "T": 1498793709153, "m": True}
        return {
            ("book", "BTCUSDT"): self.answer("/api/v3/depth", "BTCUSDT"),
            ("trades", "BTCUSDT"): [row],
            ("aggregates", "BTCUSDT"): [merged],
            ("instruments",): {"timezone": "UTC", "symbols": [listed]},
        }

    def problems(self) -> list[Message]:
        return [{"code": -1121, "msg": "Invalid symbol."}, {"code": -1003, "msg": "Too many requests; IP banned until 1700."}]


class Kraken(Registered):
    """Numbers are bare, and padded to the pair's precision; a book is proved by a checksum, and cut to its depth."""

    name = "kraken"
    counts_trades = True
    on_socket = True
    loose = False
    channels: ClassVar[dict[str, Channel]] = {"trade": "trades", "book": "orderbooks", "ticker": "tickers"}

    def native(self, symbol: str) -> str:
        return symbol

    def opened(self) -> list[Message]:
        super().opened()
        self.windows = {native: market.best(SHOWN) for native, market in self.markets.items()}
        return [self._status("online")]

    def _status(self, system: str) -> Message:
        status = {"version": "2.0.10", "system": system, "api_version": "v2", "connection_id": 14949390454975033707}
        return {"channel": "status", "type": "update", "data": [status]}

    @property
    def _iso(self) -> str:
        return (datetime(1970, 1, 1, tzinfo=UTC) + timedelta(microseconds=self.micros)).strftime("%Y-%m-%dT%H:%M:%S.%fZ")

    def read(self, frame: Any) -> Asked:
        if frame["method"] == "ping":
            return Asked("other")
        channel = self.channels[frame["params"]["channel"]]
        return Asked(frame["method"], channel, tuple(frame["params"]["symbol"]), str(frame["req_id"]))

    def pong(self, asked: Asked) -> list[Message]:
        return [{"method": "pong", "time_in": self._iso, "time_out": self._iso}]

    def hear(self, frame: str | bytes) -> list[Message]:
        """A market that is subscribed already is refused, and no snapshot comes."""
        self.before = frozenset(self.subscribed)
        return super().hear(frame)

    def acks(self, asked: Asked) -> list[Message]:
        return [self._answer("subscribe", asked, native) for native in asked.natives]

    def ended(self, asked: Asked) -> list[Message]:
        return [self._answer("unsubscribe", asked, native) for native in asked.natives]

    def _answer(self, method: str, asked: Asked, native: str) -> Message:
        common = {"method": method, "time_in": self._iso, "time_out": self._iso, "req_id": int(asked.request)}
        refusal = None if native in self.markets else f"Currency pair not supported {native}"
        if method == "subscribe" and (asked.channel, native) in self.before:
            refusal = "Already subscribed"
        if refusal is not None:
            return {"error": refusal, "success": False, "symbol": native} | common
        depth = {"depth": SHOWN} if asked.channel == "orderbooks" else {}
        result = {"channel": named(self.channels, asked.channel), "snapshot": True, "symbol": native} | depth
        return {"result": result, "success": True} | common

    def trades(self, market: Market, deals: list[Deal]) -> list[Message]:
        data = [
            {
                **{"symbol": market.native, "side": deal.side, "price": Fragment(market.price(deal.price))},
                **{"qty": Fragment(market.amount(deal.amount)), "ord_type": "market"},
                **{"trade_id": deal.number, "timestamp": self._iso},
            }
            for deal in deals
        ]
        return [{"channel": "trade", "type": "update", "data": data}]

    def _book(self, market: Market, kind: str, bids: Rows, asks: Rows) -> Message:
        best_bids, best_asks = market.best(10)
        digits = "".join(f"{price}{lots}" for price, lots in [*best_asks, *best_bids])
        sides = {
            name: [{"price": Fragment(price), "qty": Fragment(amount)} for price, amount in market.rows(rows)]
            for name, rows in (("bids", bids), ("asks", asks))
        }
        proof = {"checksum": crc32(digits.encode()), "timestamp": self._iso}
        return {"channel": "book", "type": kind, "data": [{"symbol": market.native} | sides | proof]}

    def snapshot(self, market: Market) -> Message | None:
        if ("orderbooks", market.native) in self.before:
            return None
        self.windows[market.native] = market.best(SHOWN)
        return self._book(market, "snapshot", *self.windows[market.native])

    def change(self, market: Market, move: Move) -> Message:
        before, after = self.windows[market.native], market.best(SHOWN)
        self.windows[market.native] = after
        return self._book(market, "update", *window_move(before, after))

    def ticker(self, market: Market) -> Message:
        prices = {"bid": market.best_bid, "ask": market.best_ask, "last": market.last_price}
        data: dict[str, Any] = {name: Fragment(market.price(price)) for name, price in prices.items()}
        data |= {"bid_qty": 1.5, "ask_qty": Fragment("0.0000001"), "volume": Fragment("163.28908096"), "change_pct": 0.24}
        return {"channel": "ticker", "type": "update", "data": [{"symbol": market.native, "timestamp": self._iso} | data]}

    def others(self) -> list[Message]:
        past = {"symbol": "BTC/USDT", "side": "buy", "price": 118832.9, "qty": 0.004, "trade_id": 3, "timestamp": self._iso}
        return [
            {"channel": "heartbeat"},
            self._status("online"),
            {"channel": "trade", "type": "snapshot", "data": [past]},
            {"channel": "ohlc", "type": "update", "data": [{"symbol": "BTC/USDT", "open": 1.0, "interval": 1}]},
            {"error": "Exceeded msg rate", "method": "subscribe", "success": False},
            {"Error": "Exceeded msg rate"},
        ]

    def answers(self) -> dict[tuple[str, ...], Message]:
        trades = [["105433.60000", "0.00027625", Fragment("1762795433.9717445"), "b", "l", "", 10218208]]
        pair = {"altname": "XBTUSDT", "wsname": "XBT/USDT", "base": "XXBT", "quote": "USDT", "pair_decimals": 1}
        pair |= {"lot_decimals": 8, "ordermin": "0.00005", "tick_size": "0.1", "status": "online"}
        book = {"asks": [["105.1", "1.5", 1762795433]], "bids": [["105.0", "2", 1]]}
        return {
            ("trades", "XBTUSDT"): {"error": [], "result": {"XBTUSDT": trades, "last": "1762795616311265000"}},
            ("view", "XBTUSDT"): {"error": [], "result": {"XBTUSDT": book}},
            ("instruments",): {"error": [], "result": {"XBTUSDT": pair}},
        }

    def problems(self) -> list[Message]:
        return [{"error": ["EGeneral:Too many requests"]}, {"error": ["EQuery:Unknown asset pair"]}]


class Okx(Registered):
    name = "okx"
    on_socket = True
    channels: ClassVar[dict[str, Channel]] = {"trades": "trades", "books": "orderbooks", "tickers": "tickers"}

    def native(self, symbol: str) -> str:
        return symbol.replace("/", "-")

    def read(self, frame: Any) -> Asked:
        if frame == "ping":
            return Asked("other")
        (channel,) = {each["channel"] for each in frame["args"]}
        return Asked(frame["op"], self.channels[channel], tuple(each["instId"] for each in frame["args"]), frame["id"])

    def pong(self, asked: Asked) -> list[Message]:
        return ["pong"]

    def acks(self, asked: Asked) -> list[Message]:
        return [self._event("subscribe", asked, native) for native in asked.natives]

    def ended(self, asked: Asked) -> list[Message]:
        return [self._event("unsubscribe", asked, native) for native in asked.natives]

    def _event(self, event: str, asked: Asked, native: str) -> Message:
        about = {"channel": named(self.channels, asked.channel), "instId": native}
        if native in self.markets:
            return {"id": asked.request, "event": event, "arg": about, "connId": "accb8e21"}
        complaint = f"Wrong URL or channel:{about['channel']},instId:{native} doesn't exist. Please use the correct URL."
        return {"id": asked.request, "event": "error", "code": "60018", "msg": complaint, "connId": "a4d3ae55"}

    def _on(self, channel: Channel, market: Market, *data: Message, **more: str) -> Message:
        return {"arg": {"channel": named(self.channels, channel), "instId": market.native}, **more, "data": data}

    def trades(self, market: Market, deals: list[Deal]) -> list[Message]:
        data = [
            {
                **{"instId": market.native, "tradeId": str(deal.number), "px": market.price(deal.price)},
                **{"sz": market.amount(deal.amount), "side": deal.side, "ts": str(self.millis), "count": "3", "source": "0"},
            }
            for deal in deals
        ]
        return [self._on("trades", market, *data)]

    def _book(self, market: Market, bids: Rows, asks: Rows, previous: int) -> Message:
        sides = {
            name: [[price, amount, "0", "3"] for price, amount in market.rows(rows)]
            for name, rows in (("asks", asks), ("bids", bids))
        }
        return sides | {"ts": str(self.millis), "checksum": 0, "prevSeqId": previous, "seqId": market.sequence}

    def snapshot(self, market: Market) -> Message:
        return self._on("orderbooks", market, self._book(market, *market.best(400), -1), action="snapshot")

    def change(self, market: Market, move: Move) -> Message:
        return self._on("orderbooks", market, self._book(market, move.bids, move.asks, move.previous), action="update")

    def ticker(self, market: Market) -> Message:
        prices = {"last": market.last_price, "askPx": market.best_ask, "bidPx": market.best_bid}
        data = {name: market.price(price) for name, price in prices.items()}
        rest = {"lastSz": "0.1", "askSz": "", "bidSz": "5", "open24h": "90", "vol24h": "2222", "ts": str(self.millis)}
        return self._on("tickers", market, {"instType": "SPOT", "instId": market.native} | data | rest)

    def others(self) -> list[Message]:
        best: dict[str, Any] = {"asks": [["101.98", "415", "0", "13"]], "bids": [["101.97", "256", "0", "12"]]}
        best |= {"ts": str(self.millis), "seqId": 7}
        return [
            "pong",
            {"arg": {"channel": "bbo-tbt", "instId": "BTC-USDT"}, "data": [best]},
            {"arg": {"channel": "books5", "instId": "BTC-USDT"}, "data": [best | {"instId": "BTC-USDT"}]},
            {"arg": {"channel": "candle1m", "instId": "BTC-USDT"}, "data": [["1597026360000", "8533.02", "8553.74", "0"]]},
            {"event": "channel-conn-count", "channel": "orders", "connCount": "2", "connId": "abcd1234"},
            {"event": "error", "code": "60014", "msg": "Requests too frequent", "connId": "a4d3ae55"},
        ]

    def answers(self) -> dict[tuple[str, ...], Message]:
        trade = {"instId": "BTC-USDT", "side": "sell", "sz": "0.0001", "px": "102537.9", "tradeId": "7", "ts": "1747087163557"}
        book = {"asks": [["41006.8", "0.6", "0", "1"]], "bids": [["41006.3", "0.3", "0", "2"]], "ts": "1629966436396"}
        market = {"baseCcy": "BTC", "quoteCcy": "USDT", "instId": "BTC-USDT", "instType": "SPOT", "ctVal": "", "state": "live"}
        return {
            ("trades", "BTC-USDT"): {"code": "0", "msg": "", "data": [trade]},
            ("view", "BTC-USDT"): {"code": "0", "msg": "", "data": [book]},
            ("instruments",): {"code": "0", "msg": "", "data": [market | {"tickSz": "0.1", "lotSz": "0.00000001"}]},
        }

    def problems(self) -> list[Message]:
        return [
            {"code": "51001", "msg": "Instrument ID doesn't exist", "data": []},
            {"code": "50011", "msg": "Too Many Requests", "data": []},
        ]


class Kucoin(Registered):
    name = "kucoin"
    channels: ClassVar[dict[str, Channel]] = {
        "/market/match": "trades",
        "/market/level2": "orderbooks",
        "/market/ticker": "tickers",
    }

    def native(self, symbol: str) -> str:
        return symbol.replace("/", "-")

    def opened(self) -> list[Message]:
        super().opened()
        return [{"id": "conn-1", "type": "welcome"}]

    def read(self, frame: Any) -> Asked:
        if frame["type"] == "ping":
            return Asked("other", request=frame["id"])
        topic, _, natives = frame["topic"].partition(":")
        return Asked(frame["type"], self.channels[topic], tuple(natives.split(",")), frame["id"])

    def pong(self, asked: Asked) -> list[Message]:
        return [{"id": asked.request, "type": "pong", "timestamp": self.micros}]

    def acks(self, asked: Asked) -> list[Message]:
        return [{"id": asked.request, "type": "ack"}]

    ended = acks

    def _on(self, topic: str, subject: str, **data: Any) -> Message:
        return {"topic": topic, "type": "message", "subject": subject, "data": data}

    def trades(self, market: Market, deals: list[Deal]) -> list[Message]:
        topic = f"/market/match:{market.native}"
        own = {"symbol": market.native, "time": str(self.micros * 1000), "type": "match", "makerOrderId": "671b5007"}
        return [
            self._on(
                topic,
                "trade.l3match",
                **(own | {"price": market.price(deal.price), "size": market.amount(deal.amount)}),
                **{"side": deal.side, "tradeId": str(deal.number), "sequence": str(deal.number)},
            )
            for deal in deals
        ]

    def change(self, market: Market, move: Move) -> Message:
        sides = {
            name: [[*row, str(number)] for row, number in zip(market.rows(rows), numbers, strict=True)]
            for name, rows, numbers in (("asks", move.asks, move.ask_numbers), ("bids", move.bids, move.bid_numbers))
        }
        if self.random.random() < 0.3:
            sides["asks"].append(["0", self.random.choice(("0", "1")), str(move.last)])  # a row that only moves the sequence on
        sequences = {"sequenceStart": move.first, "sequenceEnd": move.last}
        topic = f"/market/level2:{market.native}"
        return self._on(topic, "trade.l2update", changes=sides, symbol=market.native, time=self.millis, **sequences)

    def ticker(self, market: Market) -> Message:
        prices = {"price": market.last_price, "bestBid": market.best_bid, "bestAsk": market.best_ask}
        data = {name: market.price(price) for name, price in prices.items()}
        sizes = {"sequence": "14691455768", "size": "0.00004316", "bestBidSize": "0.01", "bestAskSize": "1.9"}
        return self._on(f"/market/ticker:{market.native}", "trade.ticker", **data, **sizes, time=self.millis)

    def others(self) -> list[Message]:
        view = {"asks": [["67996.7", "1.1"]], "bids": [["67996.6", "0.3"]], "timestamp": self.millis}
        best = {"asks": ["101.8", "0.5"], "bids": ["101.7", "1.2"], "timestamp": self.millis}
        day = {"symbol": "BTC-USDT", "buy": Fragment("2.63E-6"), "sell": Fragment("3e-6"), "vol": Fragment("91.50")}
        return [
            {"id": "1545910590801", "type": "pong", "timestamp": self.micros},
            self._on("/market/ticker:all", "BTC-USDT", bestAsk="101.7", price="101", Time=self.millis),
            self._on("/spotMarket/level2Depth5:BTC-USDT", "level2", **view),
            self._on("/spotMarket/level1:BTC-USDT", "level1", **best),
            self._on("/market/snapshot:BTC-USDT", "trade.snapshot", sequence="17", data=day | {"datetime": self.millis}),
            self._on("/market/candles:BTC-USDT_1hour", "trade.candles.update", symbol="BTC-USDT", candles=["1"], time=1),
            {"id": "9", "type": "error", "code": 509, "data": "too frequent"},
        ]

    def answer(self, path: str, native: str) -> Message:
        if path == "/api/v1/bullet-public":
            server = {"endpoint": "wss://ws-api-spot.kucoin.com/", "encrypt": True, "pingInterval": 18000, "pingTimeout": 10000}
            return {"code": "200000", "data": {"token": "2neAiuYvAU61abc.xyz==", "instanceServers": [server]}}
        market = self.markets[native]
        bids, asks = market.best(100)
        data = {"time": self.millis, "sequence": str(market.sequence), "bids": market.rows(bids), "asks": market.rows(asks)}
        return {"code": "200000", "data": data}

    def answers(self) -> dict[tuple[str, ...], Message]:
        trade = {"sequence": "10976028", "price": "67122", "size": "0.000025", "side": "buy", "time": 1729177117877000000}
        market = {"symbol": "BTC-USDT", "baseCurrency": "BTC", "quoteCurrency": "USDT", "enableTrading": True}
        return {
            ("token",): self.answer("/api/v1/bullet-public", ""),
            ("book", "BTC-USDT"): self.answer("/api/v1/market/orderbook/level2_100", "BTC-USDT"),
            ("trades", "BTC-USDT"): {"code": "200000", "data": [trade]},
            ("instruments",): {"code": "200000", "data": [market | {"baseIncrement": "0.00000001", "priceIncrement": "0.1"}]},
        }

    def problems(self) -> list[Message]:
        return [{"code": "400100", "msg": "symbol not exists"}, {"code": "429000", "msg": "Too Many Requests"}]


DIALECTS: dict[str, type[Dialect]] = {dialect.name: dialect for dialect in (Binance, Kraken, Kucoin, Okx, Made)}

every_dialect = pytest.mark.parametrize("dialect", DIALECTS.values(), ids=DIALECTS.keys())
