"""The dialects of the venues: frames as each sends them (fact sheets and captures), filled with what is true of a made-up market."""

from typing import Any
from zlib import compressobj, crc32, decompress

import orjson

from adapters import registry
from adapters.adapter import ExchangeAdapter
from adapters.events import Channel
from tests.adapters.conformance import Asked, Dialect
from tests.adapters.imaginary import Imaginary
from tests.adapters.market import SHOWN, Deal, Market, Move, text, window_move

QUOTED = '["%s","%s"]'


class Registered(Dialect):
    @property
    def adapter(self) -> type[ExchangeAdapter]:
        return registry.adapter(self.name)


class Binance(Registered):
    name = "binance"
    counts_trades = True
    streams = {"trade": "trades", "depth": "orderbooks", "ticker": "tickers"}

    def native(self, symbol: str) -> str:
        return symbol.replace("/", "")

    def read(self, frame: Any) -> Asked:
        channels = {self.streams[stream.split("@")[1]] for stream in frame["params"]}
        natives = tuple(stream.split("@")[0].upper() for stream in frame["params"])
        assert len(channels) == 1
        return Asked(frame["method"].lower(), channels.pop(), natives, frame["id"])  # type: ignore[arg-type]

    def acks(self, asked: Asked) -> list[str]:
        return ['{"result":null,"id":%s}' % asked.request]

    ended = acks

    def _wrapped(self, market: Market, stream: str, data: str) -> str:
        return '{"stream":"%s@%s","data":%s}' % (market.native.lower(), stream, data)

    def trades(self, market: Market, deals: list[Deal]) -> list[str]:
        return [
            self._wrapped(
                market,
                "trade",
                '{"e":"trade","E":%d,"s":"%s","t":%d,"p":"%s","q":"%s","T":%d,"m":%s,"M":true}'
                % (
                    *(self.millis, market.native, deal.number, market.price(deal.price), market.amount(deal.amount)),
                    *(self.millis - 1, "true" if deal.side == "sell" else "false"),
                ),
            )
            for deal in deals
        ]

    def change(self, market: Market, move: Move) -> str:
        data = '{"e":"depthUpdate","E":%d,"s":"%s","U":%d,"u":%d,"b":%s,"a":%s}' % (
            *(self.millis, market.native, move.first, move.last),
            *(self.levels(market, move.bids, QUOTED), self.levels(market, move.asks, QUOTED)),
        )
        return self._wrapped(market, "depth@100ms", data)

    def ticker(self, market: Market) -> str:
        data = (
            '{"e":"24hrTicker","E":%d,"s":"%s","p":"0.15","P":"2.50","w":"99.1","x":"98.9","c":"%s","Q":"10","b":"%s","B":"1.5",'
            '"a":"%s","A":"2","o":"99","h":"101","l":"98","v":"10000","q":"990000","O":1,"C":2,"F":0,"L":18150,"n":18151}'
        ) % (self.millis, market.native, *map(market.price, (market.last_price, market.best_bid, market.best_ask)))
        return self._wrapped(market, "ticker", data)

    def others(self) -> list[str]:
        others = [
            '{"stream":"btcusdt@bookTicker","data":{"u":400900217,"s":"BTCUSDT","b":"25.35","B":"31.21","a":"25.36","A":"40.66"}}',
            '{"stream":"btcusdt@depth5","data":{"lastUpdateId":160,"bids":[["0.0024","10"]],"asks":[["0.0026","100"]]}}',
            '{"stream":"btcusdt@kline_1m","data":{"e":"kline","E":%d,"s":"BTCUSDT","k":{"t":1,"T":2,"o":"1","x":false}}}'
            % self.millis,
            '{"error":{"code":2,"msg":"Invalid request: unknown variant"},"id":null}',
            '{"stream":"!miniTicker@arr","data":[{"e":"24hrMiniTicker","E":%d,"s":"BTCUSDT","c":"99.5","v":"10"}]}'
            % self.millis,
            '{"result":["btcusdt@trade"],"id":3000}',
        ]
        self.random.shuffle(others)
        return others

    def answer(self, path: str, native: str) -> str | None:
        market = self.markets[native]
        bids, asks = market.best(100)
        return '{"lastUpdateId":%d,"bids":%s,"asks":%s}' % (
            *(market.sequence, self.levels(market, bids, QUOTED)),
            self.levels(market, asks, QUOTED),
        )

    def answers(self) -> dict[tuple[str, ...], str]:
        return {
            ("book", "BTCUSDT"): self.answer("/api/v3/depth", "BTCUSDT") or "",
            ("trades", "BTCUSDT"): '[{"id":28457,"price":"4.00000100","qty":"12.00000000","quoteQty":"48.000012",'
            '"time":1499865549590,"isBuyerMaker":true,"isBestMatch":true}]',
            ("aggregates", "BTCUSDT"): '[{"a":26129,"p":"0.01633102","q":"4.70443515","f":27781,"l":27781,"T":1498793709153,'
            '"m":true,"M":true}]',
            ("instruments",): '{"timezone":"UTC","symbols":[{"symbol":"BTCUSDT","status":"TRADING","baseAsset":"BTC",'
            '"quoteAsset":"USDT","filters":[{"filterType":"PRICE_FILTER","minPrice":"0.01","tickSize":"0.01"},'
            '{"filterType":"LOT_SIZE","minQty":"0.00001","stepSize":"0.00001"}]}]}',
        }

    def problems(self) -> list[str]:
        return [
            '{"code":-1121,"msg":"Invalid symbol."}',
            '{"code":-1003,"msg":"Too many requests; IP banned until 1700000000000."}',
        ]


class Kraken(Registered):
    name = "kraken"
    counts_trades = True
    on_socket = True
    loose = False
    channels: dict[str, Channel] = {"trade": "trades", "book": "orderbooks", "ticker": "tickers"}
    level = '{"price":%s,"qty":%s}'

    def native(self, symbol: str) -> str:
        return symbol

    def opened(self) -> list[str]:
        super().opened()
        self.windows = {native: market.best(SHOWN) for native, market in self.markets.items()}
        return [
            '{"channel":"status","type":"update","data":[{"version":"2.0.10","system":"online","api_version":"v2",'
            '"connection_id":14949390454975033707}]}'
        ]

    @property
    def _iso(self) -> str:
        seconds, micros = divmod(self.micros, 1_000_000)
        clock = (seconds - 1_700_000_000 + 22 * 3600 + 13 * 60 + 20) % 86400  # the world begins at 22:13:20
        return f"2023-11-14T{clock // 3600:02}:{clock // 60 % 60:02}:{clock % 60:02}.{micros:06}Z"

    def read(self, frame: Any) -> Asked:
        if frame["method"] == "ping":
            return Asked("other")
        channel = self.channels[frame["params"]["channel"]]
        return Asked(frame["method"], channel, tuple(frame["params"]["symbol"]), str(frame["req_id"]))

    def pong(self, asked: Asked) -> list[str]:
        return ['{"method":"pong","time_in":"%s","time_out":"%s"}' % (self._iso, self._iso)]

    def acks(self, asked: Asked) -> list[str]:
        return [self._ack("subscribe", asked, native) for native in asked.natives]

    def ended(self, asked: Asked) -> list[str]:
        return [self._ack("unsubscribe", asked, native) for native in asked.natives]

    def _ack(self, method: str, asked: Asked, native: str) -> str:
        times = '"time_in":"%s","time_out":"%s"' % (self._iso, self._iso)
        refusal = None
        if native not in self.markets:
            refusal = f"Currency pair not supported {native}"
        elif method == "subscribe" and (asked.channel, native) in self.subscribed:
            refusal = "Already subscribed"
        if refusal is not None:
            said = (refusal, method, native, times, asked.request)
            return '{"error":"%s","method":"%s","success":false,"symbol":"%s",%s,"req_id":%s}' % said
        channel = next(name for name, channel in self.channels.items() if channel == asked.channel)
        depth = '"depth":%d,' % SHOWN if channel == "book" else ""
        said = (method, channel, depth, native, times, asked.request)
        return '{"method":"%s","result":{"channel":"%s",%s"snapshot":true,"symbol":"%s"},"success":true,%s,"req_id":%s}' % said

    def hear(self, frame: str | bytes) -> list[str]:
        """A book that is subscribed already is refused, and no snapshot comes."""
        before = set(self.subscribed)
        replies = super().hear(frame)
        asked = self.read(orjson.loads(frame))
        if asked.operation == "subscribe":
            twice = {native for native in asked.natives if (asked.channel, native) in before}
            replies = [
                reply for reply in replies if not ('"snapshot","data"' in reply and any(each in reply for each in twice))
            ]
        return replies

    def trades(self, market: Market, deals: list[Deal]) -> list[str]:
        rows = [
            '{"symbol":"%s","side":"%s","price":%s,"qty":%s,"ord_type":"market","trade_id":%d,"timestamp":"%s"}'
            % (market.native, deal.side, market.price(deal.price), market.amount(deal.amount), deal.number, self._iso)
            for deal in deals
        ]
        return ['{"channel":"trade","type":"update","data":[%s]}' % ",".join(rows)]

    def _book(self, market: Market, kind: str, bids: list[tuple[int, int]], asks: list[tuple[int, int]]) -> str:
        own = (
            market.native,
            self.levels(market, bids, self.level),
            self.levels(market, asks, self.level),
            self._checksum(market),
        )
        data = '{"symbol":"%s","bids":%s,"asks":%s,"checksum":%d,"timestamp":"%s"}' % (*own, self._iso)
        return '{"channel":"book","type":"%s","data":[%s]}' % (kind, data)

    def _checksum(self, market: Market) -> int:
        bids, asks = market.best(10)
        return crc32("".join(str(price) + str(lots) for price, lots in [*asks, *bids]).encode())

    def snapshot(self, market: Market) -> str:
        self.windows[market.native] = market.best(SHOWN)
        return self._book(market, "snapshot", *self.windows[market.native])

    def change(self, market: Market, move: Move) -> str:
        before, after = self.windows[market.native], market.best(SHOWN)
        self.windows[market.native] = after
        return self._book(market, "update", *window_move(before, after))

    def ticker(self, market: Market) -> str:
        prices = map(market.price, (market.best_bid, market.best_ask, market.last_price))
        data = (
            '{"symbol":"%s","bid":%s,"bid_qty":1.5,"ask":%s,"ask_qty":0.0000001,"last":%s,"volume":163.28908096,"vwap":99.1,'
            '"low":98.00,"high":101.00,"change":2.00,"change_pct":0.24,"timestamp":"%s"}'
        ) % (market.native, *prices, self._iso)
        return '{"channel":"ticker","type":"update","data":[%s]}' % data

    def others(self) -> list[str]:
        others = [
            '{"channel":"heartbeat"}',
            '{"channel":"status","type":"update","data":[{"version":"2.0.10","system":"online","connection_id":1}]}',
            '{"error":"Exceeded msg rate","method":"subscribe","success":false}',
            '{"channel":"ohlc","type":"update","data":[{"symbol":"BTC/USDT","open":1.0,"interval":1}]}',
            '{"channel":"trade","type":"snapshot","data":[{"symbol":"BTC/USDT","side":"buy","price":118832.9,"qty":0.00409283,'
            '"ord_type":"market","trade_id":3,"timestamp":"2025-07-23T04:41:46.919844Z"}]}',
            '{"Error":"Exceeded msg rate"}',
        ]
        self.random.shuffle(others)
        return others

    def answer(self, path: str, native: str) -> str | None:
        return None

    def answers(self) -> dict[tuple[str, ...], str]:
        return {
            (
                "trades",
                "XBTUSDT",
            ): '{"error":[],"result":{"XBTUSDT":[["105433.60000","0.00027625",1762795433.9717445,"b","l","",'
            '10218208],["105410.10000","0.00005000",1762795457.8467374,"s","m","",10218209]],"last":"1762795616311265000"}}',
            (
                "view",
                "XBTUSDT",
            ): '{"error":[],"result":{"XBTUSDT":{"asks":[["105.1","1.5",1762795433]],"bids":[["105.0","2",1]]}}}',
            ("instruments",): '{"error":[],"result":{"XBTUSDT":{"altname":"XBTUSDT","wsname":"XBT/USDT","base":"XXBT",'
            '"quote":"USDT","pair_decimals":1,"cost_decimals":5,"lot_decimals":8,"ordermin":"0.00005","tick_size":"0.1",'
            '"status":"online"}}}',
        }

    def problems(self) -> list[str]:
        return ['{"error":["EGeneral:Too many requests"]}', '{"error":["EQuery:Unknown asset pair"]}']


class Okx(Registered):
    name = "okx"
    on_socket = True
    channels: dict[str, Channel] = {"trades": "trades", "books": "orderbooks", "tickers": "tickers"}
    level = '["%s","%s","0","3"]'

    def native(self, symbol: str) -> str:
        return symbol.replace("/", "-")

    def read(self, frame: Any) -> Asked:
        if frame == "ping":
            return Asked("other")
        (channel,) = {each["channel"] for each in frame["args"]}
        return Asked(frame["op"], self.channels[channel], tuple(each["instId"] for each in frame["args"]), frame["id"])

    def pong(self, asked: Asked) -> list[str]:
        return ["pong"]

    def _about(self, channel: Channel, native: str) -> str:
        name = next(name for name, kind in self.channels.items() if kind == channel)
        return '{"channel":"%s","instId":"%s"}' % (name, native)

    def acks(self, asked: Asked) -> list[str]:
        return [self._event("subscribe", asked, native) for native in asked.natives]

    def ended(self, asked: Asked) -> list[str]:
        return [self._event("unsubscribe", asked, native) for native in asked.natives]

    def _event(self, event: str, asked: Asked, native: str) -> str:
        if native not in self.markets:
            name = next(name for name, kind in self.channels.items() if kind == asked.channel)
            complaint = f"Wrong URL or channel:{name},instId:{native} doesn't exist. Please use the correct URL."
            return '{"id":"%s","event":"error","code":"60018","msg":"%s","connId":"a4d3ae55"}' % (asked.request, complaint)
        about = self._about(asked.channel, native)
        return '{"id":"%s","event":"%s","arg":%s,"connId":"accb8e21"}' % (asked.request, event, about)

    def _data(self, channel: Channel, market: Market, data: str, action: str = "") -> str:
        about = self._about(channel, market.native)
        return '{"arg":%s,%s"data":[%s]}' % (about, f'"action":"{action}",' if action else "", data)

    def trades(self, market: Market, deals: list[Deal]) -> list[str]:
        rows = [
            '{"instId":"%s","tradeId":"%d","px":"%s","sz":"%s","side":"%s","ts":"%d","count":"3","source":"0","seqId":1234}'
            % (market.native, deal.number, market.price(deal.price), market.amount(deal.amount), deal.side, self.millis)
            for deal in deals
        ]
        return [self._data("trades", market, ",".join(rows))]

    def _book(self, market: Market, bids: list[tuple[int, int]], asks: list[tuple[int, int]], previous: int) -> str:
        return '{"asks":%s,"bids":%s,"ts":"%d","checksum":0,"prevSeqId":%d,"seqId":%d}' % (
            *(self.levels(market, asks, self.level), self.levels(market, bids, self.level)),
            *(self.millis, previous, market.sequence),
        )

    def snapshot(self, market: Market) -> str:
        return self._data("orderbooks", market, self._book(market, *market.best(400), -1), "snapshot")

    def change(self, market: Market, move: Move) -> str:
        return self._data("orderbooks", market, self._book(market, move.bids, move.asks, move.previous), "update")

    def ticker(self, market: Market) -> str:
        prices = map(market.price, (market.last_price, market.best_ask, market.best_bid))
        data = (
            '{"instType":"SPOT","instId":"%s","last":"%s","lastSz":"0.1","askPx":"%s","askSz":"","bidPx":"%s","bidSz":"5",'
            '"open24h":"90","high24h":"100","low24h":"88","volCcy24h":"2222","vol24h":"2222","sodUtc0":"1","ts":"%d"}'
        ) % (market.native, *prices, self.millis)
        return self._data("tickers", market, data)

    def others(self) -> list[str]:
        others = [
            "pong",
            '{"arg":{"channel":"bbo-tbt","instId":"BTC-USDT"},"data":[{"asks":[["101.98","415","0","13"]],"bids":[["101.97","256",'
            '"0","12"]],"ts":"%d","seqId":123456}]}' % self.millis,
            '{"arg":{"channel":"candle1m","instId":"BTC-USDT"},"data":[["1597026360000","8533.02","8553.74","8527.17","8548.26",'
            '"45.2","385000.5","385000.5","0"]]}',
            '{"event":"channel-conn-count","channel":"orders","connCount":"2","connId":"abcd1234"}',
            '{"event":"error","code":"60014","msg":"Requests too frequent","connId":"a4d3ae55"}',
            '{"arg":{"channel":"books5","instId":"BTC-USDT"},"data":[{"asks":[["8476.98","415","0","13"]],"bids":[["8476.97","256",'
            '"0","12"]],"instId":"BTC-USDT","ts":"%d","seqId":123456}]}' % self.millis,
        ]
        self.random.shuffle(others)
        return others

    def answer(self, path: str, native: str) -> str | None:
        return None

    def answers(self) -> dict[tuple[str, ...], str]:
        return {
            ("trades", "BTC-USDT"): '{"code":"0","msg":"","data":[{"instId":"BTC-USDT","side":"sell","sz":"0.00013669",'
            '"px":"102537.9","tradeId":"734864333","ts":"1747087163557"}]}',
            ("view", "BTC-USDT"): '{"code":"0","msg":"","data":[{"asks":[["41006.8","0.60038921","0","1"]],"bids":[["41006.3",'
            '"0.30178218","0","2"]],"ts":"1629966436396"}]}',
            ("instruments",): '{"code":"0","msg":"","data":[{"baseCcy":"BTC","ctVal":"","instFamily":"","instId":"BTC-USDT",'
            '"instType":"SPOT","lotSz":"0.00000001","minSz":"0.00001","quoteCcy":"USDT","state":"live","tickSz":"0.1"}]}',
        }

    def problems(self) -> list[str]:
        return [
            '{"code":"51001","msg":"Instrument ID doesn\'t exist","data":[]}',
            '{"code":"50011","msg":"Too Many Requests","data":[]}',
        ]


class Kucoin(Registered):
    name = "kucoin"
    topics: dict[str, Channel] = {
        "/market/match": "trades",
        "/market/level2": "orderbooks",
        "/market/ticker": "tickers",
    }
    changed = '["%s","%s","%d"]'

    def native(self, symbol: str) -> str:
        return symbol.replace("/", "-")

    def opened(self) -> list[str]:
        super().opened()
        return ['{"id":"conn-1","type":"welcome"}']

    def read(self, frame: Any) -> Asked:
        if frame["type"] == "ping":
            return Asked("other", request=frame["id"])
        topic, _, natives = frame["topic"].partition(":")
        return Asked(frame["type"], self.topics[topic], tuple(natives.split(",")), frame["id"])

    def pong(self, asked: Asked) -> list[str]:
        return ['{"id":"%s","type":"pong","timestamp":%d}' % (asked.request, self.micros)]

    def acks(self, asked: Asked) -> list[str]:
        return ['{"id":"%s","type":"ack"}' % asked.request]

    ended = acks

    def _message(self, topic: str, subject: str, data: str) -> str:
        return '{"topic":"%s","type":"message","subject":"%s","data":%s}' % (topic, subject, data)

    def trades(self, market: Market, deals: list[Deal]) -> list[str]:
        return [
            self._message(
                f"/market/match:{market.native}",
                "trade.l3match",
                '{"makerOrderId":"671b5007","price":"%s","sequence":"%d","side":"%s","size":"%s","symbol":"%s",'
                '"takerOrderId":"671b5016","time":"%d000","tradeId":"%d","type":"match"}'
                % (
                    *(market.price(deal.price), deal.number, deal.side, market.amount(deal.amount)),
                    *(market.native, self.micros, deal.number),
                ),
            )
            for deal in deals
        ]

    def _rows(self, market: Market, rows: list[tuple[int, int]], numbers: list[int]) -> list[str]:
        return [
            self.changed % (market.price(price), market.amount(lots), number)
            for (price, lots), number in zip(rows, numbers, strict=True)
        ]

    def change(self, market: Market, move: Move) -> str:
        asks = self._rows(market, move.asks, move.ask_numbers)
        bids = self._rows(market, move.bids, move.bid_numbers)
        if self.random.random() < 0.3:
            asks.append(self.changed % ("0", "0", move.last))  # a row that only moves the sequence on
        data = '{"changes":{"asks":[%s],"bids":[%s]},"sequenceEnd":%d,"sequenceStart":%d,"symbol":"%s","time":%d}' % (
            *(",".join(asks), ",".join(bids)),
            *(move.last, move.first, market.native, self.millis),
        )
        return self._message(f"/market/level2:{market.native}", "trade.l2update", data)

    def ticker(self, market: Market) -> str:
        prices = map(market.price, (market.last_price, market.best_bid, market.best_ask))
        data = (
            '{"sequence":"14691455768","price":"%s","size":"0.00004316","bestBid":"%s","bestBidSize":"0.01045638","bestAsk":"%s",'
            '"bestAskSize":"1.92318539","time":%d}'
        ) % (*prices, self.millis)
        return self._message(f"/market/ticker:{market.native}", "trade.ticker", data)

    def others(self) -> list[str]:
        others = [
            '{"id":"1545910590801","type":"pong","timestamp":%d}' % self.micros,
            self._message("/market/ticker:all", "BTC-USDT", '{"bestAsk":"101.7","price":"101","Time":%d}' % self.millis),
            self._message(
                "/spotMarket/level2Depth5:BTC-USDT",
                "level2",
                '{"asks":[["67996.7","1.14213262"]],"bids":[["67996.6","0.37969491"]],"timestamp":%d}' % self.millis,
            ),
            self._message(
                "/spotMarket/level1:BTC-USDT",
                "level1",
                '{"asks":["101.8","0.51987471"],"bids":["101.7","1.29267802"],"timestamp":%d}' % self.millis,
            ),
            self._message(
                "/market/snapshot:BTC-USDT",
                "trade.snapshot",
                '{"sequence":"1729785948015","data":{"symbol":"BTC-USDT","buy":2.63E-6,"sell":3e-6,"lastTradedPrice":0.00000264,'
                '"vol":91.50000,"datetime":%d}}' % self.millis,
            ),
            self._message(
                "/market/candles:BTC-USDT_1hour", "trade.candles.update", '{"symbol":"BTC-USDT","candles":["1"],"time":1}'
            ),
            '{"id":"9","type":"error","code":509,"data":"too frequent"}',
        ]
        self.random.shuffle(others)
        return others

    def answer(self, path: str, native: str) -> str | None:
        if path == "/api/v1/bullet-public":
            return (
                '{"code":"200000","data":{"token":"2neAiuYvAU61abc.xyz==","instanceServers":[{"endpoint":'
                '"wss://ws-api-spot.kucoin.com/","encrypt":true,"protocol":"websocket","pingInterval":18000,"pingTimeout":10000}]}}'
            )
        market = self.markets[native]
        bids, asks = market.best(100)
        return '{"code":"200000","data":{"time":%d,"sequence":"%d","bids":%s,"asks":%s}}' % (
            *(self.millis, market.sequence),
            *(self.levels(market, bids, QUOTED), self.levels(market, asks, QUOTED)),
        )

    def answers(self) -> dict[tuple[str, ...], str]:
        return {
            ("token",): self.answer("/api/v1/bullet-public", "") or "",
            ("book", "BTC-USDT"): self.answer("/api/v1/market/orderbook/level2_100", "BTC-USDT") or "",
            (
                "trades",
                "BTC-USDT",
            ): '{"code":"200000","data":[{"sequence":"10976028003549185","price":"67122","size":"0.000025",'
            '"side":"buy","time":1729177117877000000}]}',
            ("instruments",): '{"code":"200000","data":[{"symbol":"BTC-USDT","name":"BTC-USDT","baseCurrency":"BTC",'
            '"quoteCurrency":"USDT","feeCurrency":"USDT","market":"USDS","baseMinSize":"0.00001","baseIncrement":"0.00000001",'
            '"quoteIncrement":"0.000001","priceIncrement":"0.1","enableTrading":true,"tradingStartTime":null}]}',
        }

    def problems(self) -> list[str]:
        return ['{"code":"400100","msg":"symbol not exists"}', '{"code":"429000","msg":"Too Many Requests"}']


class Made(Dialect):
    """The dialect of the venue that does not exist."""

    name = "imaginary"
    on_socket = True
    topics: dict[str, Channel] = {"deals": "trades", "book": "orderbooks", "best": "tickers"}

    @property
    def adapter(self) -> type[ExchangeAdapter]:
        return Imaginary

    def native(self, symbol: str) -> str:
        return symbol.replace("/", "_")

    def opened(self) -> list[str]:
        super().opened()
        self.number = 0
        self.numbers: dict[tuple[Channel, str], int] = {}
        self.free = self.random.sample(range(1, 40), 39)  # another connection gives the same numbers to others
        self.unanswered: list[str] = []
        return []

    def packed(self, text: str) -> bytes:
        """Each message gets its number when it leaves."""
        self.number += 1
        return super().packed('{"n":%d,' % self.number + text[1:])

    def coded(self, data: bytes) -> bytes:
        packer = compressobj(level=1, wbits=31)
        return packer.compress(data) + packer.flush()

    def decoded(self, frame: bytes) -> bytes:
        return decompress(frame, wbits=31)

    def read(self, frame: Any) -> Asked:
        if "pong" in frame:
            return Asked("other", request=orjson.dumps(frame["pong"]).decode())
        if frame["do"] == "close":
            ((channel, natives),) = self._named(frame["channels"]).items()
            return Asked("unsubscribe", channel, tuple(natives), frame["request"])
        return Asked("subscribe", self.topics[frame["what"]], tuple(frame["markets"]), frame["request"])

    def _named(self, numbers: list[int]) -> dict[Channel, list[str]]:
        found: dict[Channel, list[str]] = {}
        for (channel, native), number in self.numbers.items():
            if number in numbers:
                found.setdefault(channel, []).append(native)
        return found

    def pong(self, asked: Asked) -> list[str]:
        if asked.request in self.unanswered:
            self.unanswered.remove(asked.request)
        return []

    def acks(self, asked: Asked) -> list[str]:
        what = next(topic for topic, channel in self.topics.items() if channel == asked.channel)
        said = []
        for native in asked.natives:
            if native not in self.markets:
                said.append(
                    '{"request":"%s","what":"%s","market":"%s","refused":"no such market"}' % (asked.request, what, native)
                )
                continue
            number = self.numbers[(asked.channel, native)] = self.free.pop()
            self.free.insert(0, number)
            said.append('{"request":"%s","what":"%s","market":"%s","channel":%d}' % (asked.request, what, native, number))
        return said

    def ended(self, asked: Asked) -> list[str]:
        return [
            '{"request":"%s","ended":[%d]}' % (asked.request, self.numbers[(asked.channel, native)]) for native in asked.natives
        ]

    def _bare(self, number: str) -> str:
        """The same number with an exponent, now and then."""
        if self.random.random() < 0.5:
            return number
        digits = number.replace(".", "")
        places = len(number.partition(".")[2])
        return f"{digits.lstrip('0') or '0'}{self.random.choice('eE')}-{places}"

    @property
    def _seconds(self) -> str:
        return self._bare(text(self.micros, 6))

    def _row(self, market: Market, row: tuple[int, int]) -> str:
        return f"[{self._bare(market.price(row[0]))},{self._bare(market.amount(row[1]))}]"

    def _sides(self, market: Market, bids: list[tuple[int, int]], asks: list[tuple[int, int]]) -> str:
        rows = [",".join(self._row(market, row) for row in side) for side in (bids, asks)]
        return '{"b":[%s],"a":[%s]}' % (rows[0], rows[1])

    def _on(self, channel: Channel, market: Market, part: str, value: str) -> str:
        return '{"t":%s,"on":%d,"%s":%s}' % (self._seconds, self.numbers[(channel, market.native)], part, value)

    def trades(self, market: Market, deals: list[Deal]) -> list[str]:
        rows = [
            '["%s",%s,%s,"%s",%s]'
            % (
                *(self.trade_id(deal.number), self._bare(market.price(deal.price)), self._bare(market.amount(deal.amount))),
                *(deal.side[0], self._seconds),
            )
            for deal in deals
        ]
        return [self._on("trades", market, "deals", "[%s]" % ",".join(rows))]

    def snapshot(self, market: Market) -> str:
        return self._on("orderbooks", market, "book", self._sides(market, *market.best(1000)))

    def change(self, market: Market, move: Move) -> str:
        return self._on("orderbooks", market, "diff", self._sides(market, move.bids, move.asks))

    def ticker(self, market: Market) -> str:
        bid, ask = (self._row(market, (price, 15)) for price in (market.best_bid, market.best_ask))
        best = '{"bid":%s,"ask":%s,"last":%s}' % (bid, ask, self._bare(market.price(market.last_price)))
        return self._on("tickers", market, "best", best)

    def others(self) -> list[str]:
        token = orjson.dumps(self.micros / 1_000_000).decode()
        self.unanswered.append(token)
        return ['{"ping":%s}' % token]

    def answer(self, path: str, native: str) -> str | None:
        return None

    def answers(self) -> dict[tuple[str, ...], str]:
        return {
            ("trades", "BTC_USDT"): '{"deals":[["1f5-x",1.0005e2,1E-4,"b",1.7e9]]}',
            ("instruments",): '{"markets":[{"id":"BTC_USDT","base":"BTC","quote":"USDT","open":true,"tick":1e-2,"lot":1e-4}]}',
        }

    def problems(self) -> list[str]:
        return ['{"problem":"slow down"}']

    def trade_id(self, number: int) -> str:
        return f"{number:x}-x"

    def trade_number(self, identifier: str) -> int:
        return int(identifier.removesuffix("-x"), 16)


DIALECTS: dict[str, type[Dialect]] = {dialect.name: dialect for dialect in (Binance, Kraken, Kucoin, Okx, Made)}
