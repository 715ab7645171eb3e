from google.protobuf.internal import containers as _containers
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class Event(_message.Message):
    __slots__ = ("exchange", "symbol", "timestamp", "received", "trade", "l2_orderbook", "l2_delta", "ticker", "candle", "funding_rate", "open_interest", "liquidation", "gap", "price")
    EXCHANGE_FIELD_NUMBER: _ClassVar[int]
    SYMBOL_FIELD_NUMBER: _ClassVar[int]
    TIMESTAMP_FIELD_NUMBER: _ClassVar[int]
    RECEIVED_FIELD_NUMBER: _ClassVar[int]
    TRADE_FIELD_NUMBER: _ClassVar[int]
    L2_ORDERBOOK_FIELD_NUMBER: _ClassVar[int]
    L2_DELTA_FIELD_NUMBER: _ClassVar[int]
    TICKER_FIELD_NUMBER: _ClassVar[int]
    CANDLE_FIELD_NUMBER: _ClassVar[int]
    FUNDING_RATE_FIELD_NUMBER: _ClassVar[int]
    OPEN_INTEREST_FIELD_NUMBER: _ClassVar[int]
    LIQUIDATION_FIELD_NUMBER: _ClassVar[int]
    GAP_FIELD_NUMBER: _ClassVar[int]
    PRICE_FIELD_NUMBER: _ClassVar[int]
    exchange: str
    symbol: str
    timestamp: int
    received: int
    trade: Trade
    l2_orderbook: Book
    l2_delta: BookDelta
    ticker: Ticker
    candle: Candle
    funding_rate: Funding
    open_interest: OpenInterest
    liquidation: Liquidation
    gap: Gap
    price: Price
    def __init__(self, exchange: _Optional[str] = ..., symbol: _Optional[str] = ..., timestamp: _Optional[int] = ..., received: _Optional[int] = ..., trade: _Optional[_Union[Trade, _Mapping]] = ..., l2_orderbook: _Optional[_Union[Book, _Mapping]] = ..., l2_delta: _Optional[_Union[BookDelta, _Mapping]] = ..., ticker: _Optional[_Union[Ticker, _Mapping]] = ..., candle: _Optional[_Union[Candle, _Mapping]] = ..., funding_rate: _Optional[_Union[Funding, _Mapping]] = ..., open_interest: _Optional[_Union[OpenInterest, _Mapping]] = ..., liquidation: _Optional[_Union[Liquidation, _Mapping]] = ..., gap: _Optional[_Union[Gap, _Mapping]] = ..., price: _Optional[_Union[Price, _Mapping]] = ...) -> None: ...

class Trade(_message.Message):
    __slots__ = ("id", "price", "amount", "side", "source")
    ID_FIELD_NUMBER: _ClassVar[int]
    PRICE_FIELD_NUMBER: _ClassVar[int]
    AMOUNT_FIELD_NUMBER: _ClassVar[int]
    SIDE_FIELD_NUMBER: _ClassVar[int]
    SOURCE_FIELD_NUMBER: _ClassVar[int]
    id: str
    price: str
    amount: str
    side: str
    source: str
    def __init__(self, id: _Optional[str] = ..., price: _Optional[str] = ..., amount: _Optional[str] = ..., side: _Optional[str] = ..., source: _Optional[str] = ...) -> None: ...

class Level(_message.Message):
    __slots__ = ("price", "amount")
    PRICE_FIELD_NUMBER: _ClassVar[int]
    AMOUNT_FIELD_NUMBER: _ClassVar[int]
    price: str
    amount: str
    def __init__(self, price: _Optional[str] = ..., amount: _Optional[str] = ...) -> None: ...

class Book(_message.Message):
    __slots__ = ("bids", "asks", "sequence")
    BIDS_FIELD_NUMBER: _ClassVar[int]
    ASKS_FIELD_NUMBER: _ClassVar[int]
    SEQUENCE_FIELD_NUMBER: _ClassVar[int]
    bids: _containers.RepeatedCompositeFieldContainer[Level]
    asks: _containers.RepeatedCompositeFieldContainer[Level]
    sequence: int
    def __init__(self, bids: _Optional[_Iterable[_Union[Level, _Mapping]]] = ..., asks: _Optional[_Iterable[_Union[Level, _Mapping]]] = ..., sequence: _Optional[int] = ...) -> None: ...

class BookDelta(_message.Message):
    __slots__ = ("bids", "asks", "sequence", "previous")
    BIDS_FIELD_NUMBER: _ClassVar[int]
    ASKS_FIELD_NUMBER: _ClassVar[int]
    SEQUENCE_FIELD_NUMBER: _ClassVar[int]
    PREVIOUS_FIELD_NUMBER: _ClassVar[int]
    bids: _containers.RepeatedCompositeFieldContainer[Level]
    asks: _containers.RepeatedCompositeFieldContainer[Level]
    sequence: int
    previous: int
    def __init__(self, bids: _Optional[_Iterable[_Union[Level, _Mapping]]] = ..., asks: _Optional[_Iterable[_Union[Level, _Mapping]]] = ..., sequence: _Optional[int] = ..., previous: _Optional[int] = ...) -> None: ...

class Ticker(_message.Message):
    __slots__ = ("bid", "bid_amount", "ask", "ask_amount", "last", "volume_24h")
    BID_FIELD_NUMBER: _ClassVar[int]
    BID_AMOUNT_FIELD_NUMBER: _ClassVar[int]
    ASK_FIELD_NUMBER: _ClassVar[int]
    ASK_AMOUNT_FIELD_NUMBER: _ClassVar[int]
    LAST_FIELD_NUMBER: _ClassVar[int]
    VOLUME_24H_FIELD_NUMBER: _ClassVar[int]
    bid: str
    bid_amount: str
    ask: str
    ask_amount: str
    last: str
    volume_24h: str
    def __init__(self, bid: _Optional[str] = ..., bid_amount: _Optional[str] = ..., ask: _Optional[str] = ..., ask_amount: _Optional[str] = ..., last: _Optional[str] = ..., volume_24h: _Optional[str] = ...) -> None: ...

class Candle(_message.Message):
    __slots__ = ("interval", "start", "open", "high", "low", "close", "volume", "trades", "closed")
    INTERVAL_FIELD_NUMBER: _ClassVar[int]
    START_FIELD_NUMBER: _ClassVar[int]
    OPEN_FIELD_NUMBER: _ClassVar[int]
    HIGH_FIELD_NUMBER: _ClassVar[int]
    LOW_FIELD_NUMBER: _ClassVar[int]
    CLOSE_FIELD_NUMBER: _ClassVar[int]
    VOLUME_FIELD_NUMBER: _ClassVar[int]
    TRADES_FIELD_NUMBER: _ClassVar[int]
    CLOSED_FIELD_NUMBER: _ClassVar[int]
    interval: str
    start: int
    open: str
    high: str
    low: str
    close: str
    volume: str
    trades: int
    closed: bool
    def __init__(self, interval: _Optional[str] = ..., start: _Optional[int] = ..., open: _Optional[str] = ..., high: _Optional[str] = ..., low: _Optional[str] = ..., close: _Optional[str] = ..., volume: _Optional[str] = ..., trades: _Optional[int] = ..., closed: _Optional[bool] = ...) -> None: ...

class Funding(_message.Message):
    __slots__ = ("rate", "next_time", "mark_price", "index_price")
    RATE_FIELD_NUMBER: _ClassVar[int]
    NEXT_TIME_FIELD_NUMBER: _ClassVar[int]
    MARK_PRICE_FIELD_NUMBER: _ClassVar[int]
    INDEX_PRICE_FIELD_NUMBER: _ClassVar[int]
    rate: str
    next_time: int
    mark_price: str
    index_price: str
    def __init__(self, rate: _Optional[str] = ..., next_time: _Optional[int] = ..., mark_price: _Optional[str] = ..., index_price: _Optional[str] = ...) -> None: ...

class OpenInterest(_message.Message):
    __slots__ = ("amount",)
    AMOUNT_FIELD_NUMBER: _ClassVar[int]
    amount: str
    def __init__(self, amount: _Optional[str] = ...) -> None: ...

class Liquidation(_message.Message):
    __slots__ = ("id", "price", "amount", "side")
    ID_FIELD_NUMBER: _ClassVar[int]
    PRICE_FIELD_NUMBER: _ClassVar[int]
    AMOUNT_FIELD_NUMBER: _ClassVar[int]
    SIDE_FIELD_NUMBER: _ClassVar[int]
    id: str
    price: str
    amount: str
    side: str
    def __init__(self, id: _Optional[str] = ..., price: _Optional[str] = ..., amount: _Optional[str] = ..., side: _Optional[str] = ...) -> None: ...

class Gap(_message.Message):
    __slots__ = ("channel", "reason", "first_missing", "last_missing", "since", "until")
    CHANNEL_FIELD_NUMBER: _ClassVar[int]
    REASON_FIELD_NUMBER: _ClassVar[int]
    FIRST_MISSING_FIELD_NUMBER: _ClassVar[int]
    LAST_MISSING_FIELD_NUMBER: _ClassVar[int]
    SINCE_FIELD_NUMBER: _ClassVar[int]
    UNTIL_FIELD_NUMBER: _ClassVar[int]
    channel: str
    reason: str
    first_missing: str
    last_missing: str
    since: int
    until: int
    def __init__(self, channel: _Optional[str] = ..., reason: _Optional[str] = ..., first_missing: _Optional[str] = ..., last_missing: _Optional[str] = ..., since: _Optional[int] = ..., until: _Optional[int] = ...) -> None: ...

class Price(_message.Message):
    __slots__ = ("price", "method", "sources", "refused", "spread_bps", "confidence")
    PRICE_FIELD_NUMBER: _ClassVar[int]
    METHOD_FIELD_NUMBER: _ClassVar[int]
    SOURCES_FIELD_NUMBER: _ClassVar[int]
    REFUSED_FIELD_NUMBER: _ClassVar[int]
    SPREAD_BPS_FIELD_NUMBER: _ClassVar[int]
    CONFIDENCE_FIELD_NUMBER: _ClassVar[int]
    price: str
    method: str
    sources: int
    refused: int
    spread_bps: float
    confidence: float
    def __init__(self, price: _Optional[str] = ..., method: _Optional[str] = ..., sources: _Optional[int] = ..., refused: _Optional[int] = ..., spread_bps: _Optional[float] = ..., confidence: _Optional[float] = ...) -> None: ...
