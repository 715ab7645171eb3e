"""How MEXC writes, for the conformance suite: from its fact sheet and captures, not from its adapter.

Its binary frames are made here by hand, from the numbers of the fact sheet: a second reading of the same table.
"""

from collections.abc import Iterator
from struct import pack
from typing import Any, ClassVar

import orjson

from adapters.events import Channel
from tests.adapters.dialect import Asked, Message, Registered, named
from tests.adapters.market import Deal, Market, Move, Rows

Fields = dict[str, tuple[int, str]]
"""Names to field numbers, and the kind of message in the field, if it is one."""

KINDS: dict[str, Fields] = {
    "push": {
        **{"channel": (1, ""), "symbol": (3, ""), "symbolId": (4, ""), "createTime": (5, ""), "sendTime": (6, "")},
        **{"limitDepths": (303, "depths"), "kline": (308, "kline"), "miniTicker": (309, "day"), "batch": (311, "batch")},
        **{"aggreDepths": (313, "changes"), "aggreDeals": (314, "deals"), "aggreBookTicker": (315, "best")},
    },
    "deals": {"deals": (1, "deal"), "eventType": (2, "")},
    "deal": {"price": (1, ""), "quantity": (2, ""), "tradeType": (3, ""), "time": (4, ""), "tradeId": (5, "")},
    "changes": {"asks": (1, "level"), "bids": (2, "level"), "eventType": (3, ""), "from": (4, ""), "to": (5, "")},
    "depths": {"asks": (1, "level"), "bids": (2, "level"), "eventType": (3, ""), "version": (4, "")},
    "level": {"price": (1, ""), "quantity": (2, "")},
    "best": {"bidPrice": (1, ""), "bidQuantity": (2, ""), "askPrice": (3, ""), "askQuantity": (4, ""), "version": (5, "")},
    "batch": {"items": (1, "best"), "version": (2, "")},
    "day": {"symbol": (1, ""), "price": (2, ""), "rate": (3, ""), "volume": (7, ""), "quantity": (8, "")},
    "kline": {"interval": (1, ""), "windowStart": (2, ""), "closingPrice": (4, "")},
}
LISTS = {"deals", "asks", "bids", "items"}
UNKNOWN_FIELD = (99, "")


def varint(number: int) -> bytes:
    low, rest = number & 0x7F, (number & 2**64 - 1) >> 7
    return bytes([low | 0x80]) + varint(rest) if rest else bytes([low])


def encode(message: dict[str, Any], kind: str = "push") -> bytes:
    """Values of any type: a wrong one is written as what it is."""
    data = b""
    for name, value in message.items():
        number, inner = KINDS.get(kind, {}).get(name, UNKNOWN_FIELD)
        for each in value if isinstance(value, list) else [value]:
            if isinstance(each, int):
                data += varint(number << 3) + varint(each)
            elif isinstance(each, float):
                data += varint(number << 3 | 1) + pack("<d", each)
            elif isinstance(each, str | dict):
                content = each.encode() if isinstance(each, str) else encode(each, inner)
                data += varint(number << 3 | 2) + varint(len(content)) + content
    return data


def number_at(data: bytes, at: int) -> tuple[int, int]:
    number = shift = 0
    while data[at] & 0x80:
        number |= (data[at] & 0x7F) << shift
        at, shift = at + 1, shift + 7
    return number | data[at] << shift, at + 1


def fields(data: bytes) -> Iterator[tuple[int, Any]]:
    """Field numbers and values of a whole message: integers and bytes, which are all that the venue sends."""
    at = 0
    while at < len(data):
        tag, at = number_at(data, at)
        value, at = number_at(data, at)
        if tag & 7 == 2:
            content, at = data[at : at + value], at + value
            if at > len(data):
                raise IndexError("cut")
            yield tag >> 3, content
        else:
            yield tag >> 3, value


def decode(data: bytes, kind: str = "push") -> dict[str, Any]:
    names = {number: (name, inner) for name, (number, inner) in KINDS[kind].items()}
    message: dict[str, Any] = {}
    for number, value in fields(data):
        name, inner = names.get(number, (str(number), ""))
        read = value if isinstance(value, int) else decode(value, inner) if inner else value.decode()
        if name in LISTS:
            message.setdefault(name, []).append(read)
        else:
            message[name] = read
    return message


class Mexc(Registered):
    name = "mexc"
    channels: ClassVar[dict[str, Channel]] = {
        "spot@public.aggre.deals.v3.api.pb@100ms": "trades",
        "spot@public.aggre.depth.v3.api.pb@100ms": "orderbooks",
        "spot@public.aggre.bookTicker.v3.api.pb@100ms": "tickers",
    }

    def native(self, symbol: str) -> str:
        return symbol.replace("/", "")

    def coded(self, data: bytes) -> bytes:
        """Control replies stay text; what has a channel is data."""
        try:
            message = orjson.loads(data)
        except orjson.JSONDecodeError:
            return data
        return encode(message) if isinstance(message, dict) and "channel" in message else data

    def decoded(self, frame: bytes) -> bytes:
        return frame if frame.startswith(b"{") else orjson.dumps(decode(frame))

    def stands(self, cut: bytes) -> bool:
        """Protobuf has no end: a cut between two fields leaves a message without a body, which the venue may send as well."""
        try:
            return 1 in dict(fields(cut))
        except IndexError:
            return False

    def read(self, frame: Any) -> Asked:
        if frame == {"method": "PING"}:
            return Asked("other")
        streams, natives = zip(*(topic.rsplit("@", 1) for topic in frame["params"]), strict=True)
        (stream,) = set(streams)
        return Asked(
            "subscribe" if frame["method"] == "SUBSCRIPTION" else "unsubscribe",
            self.channels[stream],
            natives,
            str(frame["id"]),
        )

    def pong(self, asked: Asked) -> list[Message]:
        return [{"id": 0, "code": 0, "msg": "PONG"}]

    def acks(self, asked: Asked) -> list[Message]:
        topics = {native: f"{named(self.channels, asked.channel)}@{native}" for native in asked.natives}
        accepted = ",".join(topic for native, topic in topics.items() if native in self.markets)
        refused = ",".join(topic for native, topic in topics.items() if native not in self.markets)
        complaint = f"Not Subscribed successfully! [{refused}].  Reason： Blocked! "
        replies = [{"id": self.random.choice((0, int(asked.request))), "code": 0, "msg": accepted}] if accepted else []
        return replies + ([{"id": 0, "code": 0, "msg": complaint}] if refused else [])

    def ended(self, asked: Asked) -> list[Message]:
        topics = [f"{named(self.channels, asked.channel)}@{native}" for native in asked.natives]
        return [{"id": int(asked.request), "code": 0, "msg": ",".join(topics)}]

    def _on(self, channel: Channel, market: Market, **body: Message) -> Message:
        topic = f"{named(self.channels, channel)}@{market.native}"
        return {"channel": topic, "symbol": market.native, "sendTime": self.millis, **body}

    def trades(self, market: Market, deals: list[Deal]) -> list[Message]:
        rows = [
            {
                **{"price": market.price(deal.price), "quantity": market.amount(deal.amount), "time": self.millis - 7},
                **{"tradeType": 1 if deal.side == "buy" else 2, "tradeId": f"{deal.number}X0_{deal.number + 1}X0"},
            }
            for deal in deals
        ]
        return [self._on("trades", market, aggreDeals={"deals": rows, "eventType": named(self.channels, "trades")})]

    def trade_number(self, identifier: str) -> int:
        return int(identifier.partition("X")[0])

    def _levels(self, market: Market, rows: Rows) -> list[Message]:
        return [{"price": price, "quantity": amount} for price, amount in market.rows(rows)]

    def change(self, market: Market, move: Move) -> Message:
        sides = {"asks": self._levels(market, move.asks), "bids": self._levels(market, move.bids)}
        versions = {"from": str(move.first), "to": str(move.last)}
        return self._on("orderbooks", market, aggreDepths=sides | {"eventType": named(self.channels, "orderbooks")} | versions)

    def ticker(self, market: Market) -> Message:
        prices = {"bidPrice": market.price(market.best_bid), "bidQuantity": "0.006387"}
        prices |= {"askPrice": market.price(market.best_ask), "askQuantity": "5.42169969", "version": "82164153436"}
        return self._on("tickers", market, aggreBookTicker=prices)

    def others(self) -> list[Message]:
        level = {"price": "84270.00", "quantity": "0.00638700"}
        view = {"asks": [level], "bids": [], "version": "82164155643"}
        day = {"symbol": "BTCUSDT", "price": "36474.74", "rate": "0.0354", "volume": "375173478.65", "quantity": "10557.72895"}
        kline = {"interval": "Min1", "windowStart": 1790281200, "closingPrice": "84270"}
        best = {"bidPrice": "84270", "bidQuantity": "1", "askPrice": "84271", "askQuantity": "2"}
        common = {"symbol": "BTCUSDT", "sendTime": self.millis}
        return [
            {"id": 0, "code": 0, "msg": "PONG"},
            {"channel": "spot@public.limit.depth.v3.api.pb@BTCUSDT@5", **common, "limitDepths": view},
            {"channel": "spot@public.miniTicker.v3.api.pb@BTCUSDT@UTC+8", **common, "miniTicker": day},
            {"channel": "spot@public.bookTicker.batch.v3.api.pb@BTCUSDT", **common, "batch": {"items": [best], "version": "7"}},
            {
                "channel": "spot@public.kline.v3.api.pb@BTCUSDT@Min1",
                "symbolId": "2fb9",
                "createTime": self.millis,
                "kline": kline,
            },
            {"channel": "spot@public.aggre.depth.v3.api.pb@100ms@BTCUSDT", **common},
        ]

    def answer(self, path: str, native: str) -> Message:
        market = self.markets[native]
        bids, asks = market.best(1000)
        rows = {"bids": market.rows(bids), "asks": market.rows(asks)}
        return {"lastUpdateId": market.sequence, **rows, "timestamp": self.millis}

    def answers(self) -> dict[tuple[str, ...], Message]:
        listed = {"symbol": "BTCUSDT", "status": "1", "baseAsset": "BTC", "quoteAsset": "USDT", "baseAssetPrecision": 8}
        listed |= {"quotePrecision": 2, "quoteAssetPrecision": 2, "baseSizePrecision": "0.000001", "quoteAmountPrecision": "1"}
        row = {"id": None, "price": "23", "qty": "0.478468", "time": 1640830579240, "isBuyerMaker": True, "isBestMatch": True}
        merged = {"a": None, "f": None, "l": None, "p": "46782.67", "q": "0.0038", "T": 1641380483000, "m": False, "M": True}
        return {
            ("book", "BTCUSDT"): self.answer("/api/v3/depth", "BTCUSDT"),
            ("trades", "BTCUSDT"): [row],
            ("aggregates", "BTCUSDT"): [merged],
            ("instruments",): {"timezone": "CST", "serverTime": 1640080279000, "symbols": [listed]},
        }

    def problems(self) -> list[Message]:
        return [{"code": -1121, "msg": "Invalid symbol."}, {"code": 429, "msg": "Too Many Requests"}]
