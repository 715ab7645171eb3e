from google.protobuf.internal import containers as _containers
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class PushDataV3ApiWrapper(_message.Message):
    __slots__ = ("channel", "symbol", "createTime", "sendTime", "publicDeals", "publicIncreaseDepths", "publicLimitDepths", "publicBookTicker", "publicSpotKline", "publicMiniTicker", "publicMiniTickers", "publicBookTickerBatch", "publicAggreDepths", "publicAggreDeals", "publicAggreBookTicker")
    CHANNEL_FIELD_NUMBER: _ClassVar[int]
    SYMBOL_FIELD_NUMBER: _ClassVar[int]
    CREATETIME_FIELD_NUMBER: _ClassVar[int]
    SENDTIME_FIELD_NUMBER: _ClassVar[int]
    PUBLICDEALS_FIELD_NUMBER: _ClassVar[int]
    PUBLICINCREASEDEPTHS_FIELD_NUMBER: _ClassVar[int]
    PUBLICLIMITDEPTHS_FIELD_NUMBER: _ClassVar[int]
    PUBLICBOOKTICKER_FIELD_NUMBER: _ClassVar[int]
    PUBLICSPOTKLINE_FIELD_NUMBER: _ClassVar[int]
    PUBLICMINITICKER_FIELD_NUMBER: _ClassVar[int]
    PUBLICMINITICKERS_FIELD_NUMBER: _ClassVar[int]
    PUBLICBOOKTICKERBATCH_FIELD_NUMBER: _ClassVar[int]
    PUBLICAGGREDEPTHS_FIELD_NUMBER: _ClassVar[int]
    PUBLICAGGREDEALS_FIELD_NUMBER: _ClassVar[int]
    PUBLICAGGREBOOKTICKER_FIELD_NUMBER: _ClassVar[int]
    channel: str
    symbol: str
    createTime: int
    sendTime: int
    publicDeals: PublicAggreDeals
    publicIncreaseDepths: PublicLimitDepths
    publicLimitDepths: PublicLimitDepths
    publicBookTicker: PublicAggreBookTicker
    publicSpotKline: PublicSpotKline
    publicMiniTicker: PublicMiniTicker
    publicMiniTickers: PublicMiniTickers
    publicBookTickerBatch: PublicBookTickerBatch
    publicAggreDepths: PublicAggreDepths
    publicAggreDeals: PublicAggreDeals
    publicAggreBookTicker: PublicAggreBookTicker
    def __init__(self, channel: _Optional[str] = ..., symbol: _Optional[str] = ..., createTime: _Optional[int] = ..., sendTime: _Optional[int] = ..., publicDeals: _Optional[_Union[PublicAggreDeals, _Mapping]] = ..., publicIncreaseDepths: _Optional[_Union[PublicLimitDepths, _Mapping]] = ..., publicLimitDepths: _Optional[_Union[PublicLimitDepths, _Mapping]] = ..., publicBookTicker: _Optional[_Union[PublicAggreBookTicker, _Mapping]] = ..., publicSpotKline: _Optional[_Union[PublicSpotKline, _Mapping]] = ..., publicMiniTicker: _Optional[_Union[PublicMiniTicker, _Mapping]] = ..., publicMiniTickers: _Optional[_Union[PublicMiniTickers, _Mapping]] = ..., publicBookTickerBatch: _Optional[_Union[PublicBookTickerBatch, _Mapping]] = ..., publicAggreDepths: _Optional[_Union[PublicAggreDepths, _Mapping]] = ..., publicAggreDeals: _Optional[_Union[PublicAggreDeals, _Mapping]] = ..., publicAggreBookTicker: _Optional[_Union[PublicAggreBookTicker, _Mapping]] = ...) -> None: ...

class PublicAggreDeals(_message.Message):
    __slots__ = ("deals",)
    DEALS_FIELD_NUMBER: _ClassVar[int]
    deals: _containers.RepeatedCompositeFieldContainer[PublicAggreDealsItem]
    def __init__(self, deals: _Optional[_Iterable[_Union[PublicAggreDealsItem, _Mapping]]] = ...) -> None: ...

class PublicAggreDealsItem(_message.Message):
    __slots__ = ("price", "quantity", "tradeType", "time", "tradeId")
    PRICE_FIELD_NUMBER: _ClassVar[int]
    QUANTITY_FIELD_NUMBER: _ClassVar[int]
    TRADETYPE_FIELD_NUMBER: _ClassVar[int]
    TIME_FIELD_NUMBER: _ClassVar[int]
    TRADEID_FIELD_NUMBER: _ClassVar[int]
    price: str
    quantity: str
    tradeType: int
    time: int
    tradeId: str
    def __init__(self, price: _Optional[str] = ..., quantity: _Optional[str] = ..., tradeType: _Optional[int] = ..., time: _Optional[int] = ..., tradeId: _Optional[str] = ...) -> None: ...

class PublicDepthsItem(_message.Message):
    __slots__ = ("price", "quantity")
    PRICE_FIELD_NUMBER: _ClassVar[int]
    QUANTITY_FIELD_NUMBER: _ClassVar[int]
    price: str
    quantity: str
    def __init__(self, price: _Optional[str] = ..., quantity: _Optional[str] = ...) -> None: ...

class PublicAggreDepths(_message.Message):
    __slots__ = ("asks", "bids", "fromVersion", "toVersion")
    ASKS_FIELD_NUMBER: _ClassVar[int]
    BIDS_FIELD_NUMBER: _ClassVar[int]
    FROMVERSION_FIELD_NUMBER: _ClassVar[int]
    TOVERSION_FIELD_NUMBER: _ClassVar[int]
    asks: _containers.RepeatedCompositeFieldContainer[PublicDepthsItem]
    bids: _containers.RepeatedCompositeFieldContainer[PublicDepthsItem]
    fromVersion: str
    toVersion: str
    def __init__(self, asks: _Optional[_Iterable[_Union[PublicDepthsItem, _Mapping]]] = ..., bids: _Optional[_Iterable[_Union[PublicDepthsItem, _Mapping]]] = ..., fromVersion: _Optional[str] = ..., toVersion: _Optional[str] = ...) -> None: ...

class PublicLimitDepths(_message.Message):
    __slots__ = ("asks", "bids", "version")
    ASKS_FIELD_NUMBER: _ClassVar[int]
    BIDS_FIELD_NUMBER: _ClassVar[int]
    VERSION_FIELD_NUMBER: _ClassVar[int]
    asks: _containers.RepeatedCompositeFieldContainer[PublicDepthsItem]
    bids: _containers.RepeatedCompositeFieldContainer[PublicDepthsItem]
    version: str
    def __init__(self, asks: _Optional[_Iterable[_Union[PublicDepthsItem, _Mapping]]] = ..., bids: _Optional[_Iterable[_Union[PublicDepthsItem, _Mapping]]] = ..., version: _Optional[str] = ...) -> None: ...

class PublicAggreBookTicker(_message.Message):
    __slots__ = ("bidPrice", "bidQuantity", "askPrice", "askQuantity")
    BIDPRICE_FIELD_NUMBER: _ClassVar[int]
    BIDQUANTITY_FIELD_NUMBER: _ClassVar[int]
    ASKPRICE_FIELD_NUMBER: _ClassVar[int]
    ASKQUANTITY_FIELD_NUMBER: _ClassVar[int]
    bidPrice: str
    bidQuantity: str
    askPrice: str
    askQuantity: str
    def __init__(self, bidPrice: _Optional[str] = ..., bidQuantity: _Optional[str] = ..., askPrice: _Optional[str] = ..., askQuantity: _Optional[str] = ...) -> None: ...

class PublicBookTickerBatch(_message.Message):
    __slots__ = ("items",)
    ITEMS_FIELD_NUMBER: _ClassVar[int]
    items: _containers.RepeatedCompositeFieldContainer[PublicAggreBookTicker]
    def __init__(self, items: _Optional[_Iterable[_Union[PublicAggreBookTicker, _Mapping]]] = ...) -> None: ...

class PublicSpotKline(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class PublicMiniTicker(_message.Message):
    __slots__ = ("symbol", "price", "quantity")
    SYMBOL_FIELD_NUMBER: _ClassVar[int]
    PRICE_FIELD_NUMBER: _ClassVar[int]
    QUANTITY_FIELD_NUMBER: _ClassVar[int]
    symbol: str
    price: str
    quantity: str
    def __init__(self, symbol: _Optional[str] = ..., price: _Optional[str] = ..., quantity: _Optional[str] = ...) -> None: ...

class PublicMiniTickers(_message.Message):
    __slots__ = ("items",)
    ITEMS_FIELD_NUMBER: _ClassVar[int]
    items: _containers.RepeatedCompositeFieldContainer[PublicMiniTicker]
    def __init__(self, items: _Optional[_Iterable[_Union[PublicMiniTicker, _Mapping]]] = ...) -> None: ...
