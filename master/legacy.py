"""The wire of older collectors: one JSON message a text frame, times in milliseconds, no ids, no acknowledgement."""

import msgspec
from msgspec import Struct

from adapters.errors import NumberError
from adapters.events import Book, Event, Side, Ticker, Trade
from adapters.numbers import Millis, plain


class LegacyError(Exception):
    """A frame that is none of trade, book, ticker and ping."""


class _Trade(Struct, tag_field="type", tag="trade"):
    exchange: str
    symbol: str
    timestamp: Millis
    price: str
    amount: str
    side: Side


class _Book(Struct, tag_field="type", tag="book"):
    exchange: str
    symbol: str
    timestamp: Millis
    asks: list[tuple[str, str]]
    bids: list[tuple[str, str]]


class _Ticker(Struct, tag_field="type", tag="ticker"):
    exchange: str
    symbol: str
    timestamp: Millis
    bid: str | None = None
    ask: str | None = None
    last: str | None = None
    vol_24h: str | None = None


class _Ping(Struct):
    op: str


_message: msgspec.json.Decoder[_Trade | _Book | _Ticker] = msgspec.json.Decoder(_Trade | _Book | _Ticker)
_ping = msgspec.json.Decoder(_Ping)


def decode(frame: str | bytes, received: int) -> Event | None:
    """The event of one frame; None for the heartbeat `{"op": "ping"}`. Raises LegacyError."""
    try:
        return _event(_message.decode(frame), received)
    except NumberError as error:
        raise LegacyError(str(error)) from error
    except msgspec.MsgspecError as error:
        if _is_ping(frame):
            return None
        raise LegacyError(str(error)) from error


def _is_ping(frame: str | bytes) -> bool:
    try:
        return _ping.decode(frame).op == "ping"
    except msgspec.MsgspecError:
        return False


def _event(message: _Trade | _Book | _Ticker, received: int) -> Event:
    about = (message.exchange, message.symbol, message.timestamp * 1000, received)
    if isinstance(message, _Trade):
        return Trade(*about, "", plain(message.price), plain(message.amount), message.side, "legacy")
    if isinstance(message, _Book):
        bids = [(plain(price), plain(amount)) for price, amount in message.bids]
        return Book(*about, bids, [(plain(price), plain(amount)) for price, amount in message.asks], None)
    bid, ask, last, volume = (
        plain(text) if text else None for text in (message.bid, message.ask, message.last, message.vol_24h)
    )
    return Ticker(*about, bid=bid, ask=ask, last=last, volume_24h=volume)
