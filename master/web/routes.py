"""The routes of the API, and what each of them asks of which room."""

from collections.abc import Mapping
from functools import partial
from time import monotonic, time_ns
from types import MappingProxyType
from typing import Annotated, Any, Literal, get_args

from aiohttp import web
from msgspec import Meta, Struct

from master.history.questions import MOST_ROWS, Found, Question, QuestionError
from master.history.reader import BusyError, ReaderError, SlowError
from master.pricing.methods import Answer
from master.pricing.prices import LONGEST_WINDOW, FeedsRequest, UnknownFeedError
from master.web import shapes
from master.web.endpoint import JSON, Route, Time, as_json
from master.web.http import ApiError
from master.web.rooms import Rooms

MOST_FEEDS = 1000
"""Of one request: while they are priced, nothing else is done."""
EXPOSITION = "text/plain; version=0.0.4; charset=utf-8"
Table = Literal["trades", "books", "tickers", "candles", "prices", "gaps"]
Format = Literal["json", "csv", "parquet", "arrow"]
MEDIA: dict[Format, str] = {
    "json": JSON,
    "csv": "text/csv",
    "parquet": "application/vnd.apache.parquet",
    "arrow": "application/vnd.apache.arrow.stream",
}

Interval = Literal["1s", "1m", "5m", "15m", "1h", "4h", "1d"]
"""Those of history.INTERVALS, as a type."""

# What may be asked.

Exchange = Annotated[str | None, Meta(description="an exchange, such as kraken; left out: all")]
Symbol = Annotated[str | None, Meta(description="a symbol, such as BTC/USD; left out: all")]
_ROWS = ", ".join(f"{most} for {name}" for name, most in MOST_ROWS.items())
_ROWS = f"rows, from 1 to {_ROWS}"
OneSymbol = Annotated[str, Meta(min_length=1, description="a symbol, such as BTC/USD")]
_MOMENT = "ISO-8601 such as 2026-01-31T12:00:00Z, or microseconds UTC"


class Sources(Struct):
    exchange: Exchange = None
    symbol: Symbol = None


class OneBook(Struct):
    exchange: Annotated[str, Meta(min_length=1, description="an exchange, such as kraken")]
    symbol: OneSymbol
    depth: Annotated[int, Meta(ge=1, le=1000, description="levels a side, 1 to 1000")] = 20


class OneFeed(Struct):
    feed: Annotated[str, Meta(min_length=1, description="a feed, such as BTC/USD; GET /v1/feeds lists them")]


class Past(Struct):
    exchange: Exchange = None
    symbol: Symbol = None
    start: Annotated[Time | None, Meta(description=f"received at or after: {_MOMENT}")] = None
    end: Annotated[Time | None, Meta(description=f"received before: {_MOMENT}")] = None
    limit: Annotated[
        int,
        Meta(ge=1, le=max(MOST_ROWS.values()), description=_ROWS),
    ] = 1000
    cursor: Annotated[str | None, Meta(description="the cursor of the answer before, with the same other parameters")] = None
    format: Annotated[Format, Meta(description=", ".join(MEDIA))] = "json"


class PastCandles(Past, kw_only=True):
    symbol: OneSymbol
    interval: Annotated[Interval, Meta(description=", ".join(get_args(Interval)))] = "1m"


class Ledger(Struct):
    exchange: Exchange = None
    symbol: Symbol = None
    since: Annotated[Time | None, Meta(description=f"hours that begin at or after: {_MOMENT}")] = None
    until: Annotated[Time | None, Meta(description=f"hours that begin before: {_MOMENT}")] = None


class Round(Struct):
    votingRoundId: Annotated[int, Meta(ge=0, lt=2**53, description="number of the voting round, from 0")]  # noqa: N815 (the FTSO's)


class Window(Struct):
    window: Annotated[int, Meta(ge=1, le=LONGEST_WINDOW, description=f"seconds, 1 to {LONGEST_WINDOW}")] = 60


# The market as it is now.


async def market(rooms: Rooms, asked: Sources) -> Any:
    now = _now()
    return {"time": now, "sources": [each.report(now) for each in rooms.market.sources(asked.symbol, asked.exchange)]}


async def symbols(rooms: Rooms, _: Struct) -> Any:
    return {
        "symbols": [
            shapes.SymbolMarkets(
                symbol, list(sources), [name for name, source in sources.items() if source.live.newest or source.is_recovering]
            )
            for symbol, sources in rooms.market.symbols.items()
        ]
    }


async def book(rooms: Rooms, asked: OneBook) -> Any:
    source = next(rooms.market.sources(asked.symbol, asked.exchange), None)
    name = f"{asked.exchange} {asked.symbol}"
    if source is None:
        raise ApiError(404, f"nothing is known of {name}", "GET /v1/market lists what is")
    ladder = source.ladder(asked.depth, _now())
    if ladder is not None:
        return ladder
    if source.is_recovering:
        return shapes.Ladder.absent(asked.exchange, asked.symbol)
    raise ApiError(404, f"no book of {name} has come", "add it to exchanges[].pairs.orderbooks of the collector")


# Prices.


async def feeds(rooms: Rooms, _: Struct) -> Any:
    return {"feeds": rooms.prices.listing()}


async def price(rooms: Rooms, asked: OneFeed) -> Any:
    try:
        answer = rooms.prices.answer(asked.feed, _now())
    except UnknownFeedError as error:
        raise ApiError(404, f"no feed is called {asked.feed[:100]!r}", "GET /v1/feeds lists them") from error
    rooms.usage.prices["absent" if answer.price is None else "priced"] += 1
    return answer


async def live_prices(rooms: Rooms, _: Struct) -> Any:
    now = _now()
    found = rooms.prices.live(now)
    absent = sum(each.price is None for each in found)
    rooms.usage.prices.update(absent=absent, priced=len(found) - absent)
    return {"time": now, "prices": found}


async def feed_values(rooms: Rooms, _: Struct, wanted: FeedsRequest) -> Any:
    return {"data": _values(rooms, wanted)}


async def round_values(rooms: Rooms, asked: Round, wanted: FeedsRequest) -> Any:
    return {"votingRoundId": asked.votingRoundId, "data": _values(rooms, wanted)}


def _values(rooms: Rooms, wanted: FeedsRequest) -> Any:
    found = rooms.prices.feed_values(_bounded(wanted).feeds, _now())
    priced = sum(isinstance(each.value, float) for each in found)
    rooms.usage.prices.update(priced=priced, absent=len(found) - priced)
    return found


async def volumes(rooms: Rooms, asked: Window, wanted: FeedsRequest) -> Any:
    return {"data": rooms.prices.volumes(_bounded(wanted).feeds, asked.window, _now())}


def _bounded(wanted: FeedsRequest) -> FeedsRequest:
    if len(wanted.feeds) > MOST_FEEDS:
        raise ApiError(400, f"feeds: {len(wanted.feeds)} of them", f"ask for at most {MOST_FEEDS} at once")
    return wanted


# The past.


async def past(rooms: Rooms, asked: Past, *, table: Table) -> web.Response:
    interval = asked.interval if isinstance(asked, PastCandles) else None
    span = (asked.exchange, asked.symbol, _plain(asked.start), _plain(asked.end))
    found = await _ask(rooms, Question(table, *span, asked.limit, asked.cursor, interval, asked.format))
    headers = {} if found.cursor is None else {"X-Next-Cursor": found.cursor}
    return web.Response(body=found.body, content_type=MEDIA[asked.format], headers=headers)


async def completeness(rooms: Rooms, asked: Ledger) -> web.Response:
    span = (asked.exchange, asked.symbol, _plain(asked.since), _plain(asked.until))
    found = await _ask(rooms, Question("completeness", *span, MOST_ROWS["json"]), _OF_LEDGER)
    return web.Response(body=found.body, content_type=JSON)


def _plain(time: Time | None) -> int | None:
    """As an integer that goes through the pipe to the reader; no subclass does."""
    return None if time is None else int(time)


_OF_LEDGER = {"start": "since", "end": "until", "limit": "since"}
"""What fields of a question are called there; it has no limit, but a span that may be too long."""


async def _ask(rooms: Rooms, question: Question, called: Mapping[str, str] = MappingProxyType({})) -> Found:
    """`called`: the parameters of those fields that have another name. Raises ApiError."""
    usage, began = rooms.usage, monotonic()
    try:
        found = await rooms.reader.ask(question)
    except QuestionError as error:
        usage.queries[question.table, "refused"] += 1
        name = called.get(error.field, error.field)
        raise ApiError(400, f"{name} is not as it can be", f"{name}: {error.change}") from error
    except ReaderError as error:
        outcome, status, change = next(said for kind, said in _UNANSWERED.items() if isinstance(error, kind))
        usage.queries[question.table, outcome] += 1
        raise ApiError(status, str(error), change, {"Retry-After": "1"}) from error
    usage.queries[question.table, "answered"] += 1
    usage.query_seconds[question.table] += monotonic() - began
    return found


_UNANSWERED = {
    BusyError: ("busy", 503, "ask again in a second, and fewer questions at once"),
    SlowError: ("slow", 504, "ask for less: a shorter time from start to end, one exchange, one symbol"),
    ReaderError: ("failed", 503, "ask again in a second"),
}

# The master itself.


async def status(rooms: Rooms, _: Struct) -> Any:
    now, pulse = _now(), rooms.pulse
    vitals = rooms.vitals.summary()
    return {"time": now, **vitals, "events_per_second": pulse.events_per_second, "exchanges": pulse.exchanges(now)}


async def status_history(rooms: Rooms, _: Struct) -> Any:
    return rooms.pulse.history()


async def health(rooms: Rooms, _: Struct) -> web.Response:
    report = rooms.vitals.health()
    return as_json(report, 200 if report["status"] == "ok" else 503)


async def alive(_: Rooms, __: Struct) -> Any:
    return shapes.Alive()


async def ready(rooms: Rooms, _: Struct) -> Any:
    if rooms.vitals.trouble is not None:
        raise ApiError(503, f"nothing can be stored: {rooms.vitals.trouble}", "make room on the disk of server.data")
    if not rooms.reader.is_up:
        raise ApiError(503, "the process that answers questions is down", "wait; it is started again by itself")
    return shapes.Alive()


async def metrics(rooms: Rooms, _: Struct) -> web.Response:
    return web.Response(body=rooms.vitals.exposition(), headers={"Content-Type": EXPOSITION})


def _now() -> int:
    return time_ns() // 1000


_OF_READER = (503, 504)
_MEDIA = tuple(MEDIA.values())


def _past(table: Table, summary: str, answer: type[Struct], asked: type[Past] = Past) -> Route:
    handler = partial(past, table=table)
    return Route("GET", f"/v1/{table}", handler, summary, answer, asked, media=_MEDIA, errors=_OF_READER)


ROUTES = (
    Route("GET", "/v1/market", market, "Each market now: last trade, best prices, book", shapes.MarketReport, Sources),
    Route("GET", "/v1/symbols", symbols, "Which markets there are", shapes.Symbols),
    Route("GET", "/v1/market/book", book, "One order book as it is now", shapes.Ladder, OneBook, errors=(404,)),
    Route("GET", "/v1/feeds", feeds, "The price feeds there are", shapes.Feeds),
    Route("GET", "/v1/price", price, "The price of a feed, and what it is made of", Answer, OneFeed, errors=(404,)),
    Route("GET", "/v1/prices/live", live_prices, "The prices of all feeds", shapes.LivePrices),
    _past("trades", "Trades as they were received", shapes.Trades),
    _past("books", "Views of order books", shapes.Books),
    _past("tickers", "Tickers", shapes.Tickers),
    _past("candles", "Candles, of one exchange or, without one, of all together", shapes.Candles, PastCandles),
    _past("prices", "Prices of feeds, one each second", shapes.PriceRows),
    _past("gaps", "What is missing, and why", shapes.Gaps),
    Route(
        *("GET", "/v1/completeness", completeness, "How complete the data is, hour by hour", shapes.Completeness, Ledger),
        errors=_OF_READER,
    ),
    Route("GET", "/v1/status", status, "How it goes, by exchange", shapes.Status),
    Route("GET", "/v1/status/history", status_history, "How it went these ten minutes", shapes.StatusHistory),
    Route(
        *("POST", "/feed-values/{votingRoundId}", round_values, "FTSO: values for a voting round"),
        *(shapes.RoundValues, Round, FeedsRequest),
    ),
    Route("POST", "/feed-values/", feed_values, "FTSO: values now", shapes.FeedValues, body=FeedsRequest),
    Route("POST", "/volumes/", volumes, "FTSO: USD traded lately, by exchange", shapes.Volumes, Window, FeedsRequest),
    Route("GET", "/health", health, "What the master knows of itself; 503 while it cannot store", shapes.Health, failing=True),
    Route("GET", "/health/live", alive, "Whether the process runs", shapes.Alive),
    Route("GET", "/health/ready", ready, "Whether it can store and answer", shapes.Alive, errors=(503,)),
    Route("GET", "/metrics", metrics, "The same for Prometheus", media=("text/plain",)),
)
