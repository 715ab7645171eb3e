"""A stand-in for the master's HTTP: the page as it is served, and answers of the shapes that docs/api.md promises, which move.

`python -m tests.dashboard.stub` serves it on port 8767, to look at the page.
"""

import asyncio
import threading
from math import sin
from time import time
from typing import Any

from aiohttp import web

from master.web.dashboard import routes

VENUES = ("binance", "bitstamp", "bybit", "coinbase", "gateio", "htx", "kraken", "okx")
MIDS = {"BTC/USDT": 71287.3, "ETH/USDT": 3421.12, "XRP/USDT": 2.13456, "DOGE/USDT": 0.16234, "PEPE/USDT": 0.000012345}
FEEDS = ("BTC", "ETH", "XRP", "DOGE", "PEPE", "FLR", "SOL", "ADA", "LTC", "XLM", "AVAX", "LINK", "USDT", "USDC", "NIGHT")
WIDTHS = {"1s": 1, "1m": 60, "5m": 300, "15m": 900, "1h": 3600, "4h": 14400, "1d": 86400}
HOUR = 3_600_000_000
RECOVERING = ("htx", "BTC/USDT")
"""The market whose book cannot be trusted."""


def now() -> int:
    return int(time() * 1e6)


def wave(*phase: object) -> float:
    """From -1 to 1, moving; the same for the same words at the same time."""
    return sin(time() / 7 + sum(map(ord, "".join(map(str, phase)))))


def problem(status: int, title: str, detail: str, change: str) -> web.Response:
    body = {"type": "about:blank", "title": title, "status": status, "detail": detail, "change": change}
    return web.json_response(body, status=status, content_type="application/problem+json")


class Stub:
    """Runs in a thread of its own. `key` is asked for where it is set; `stop` and `start` again is an outage."""

    def __init__(self, port: int) -> None:
        self.port = port
        self.key: str | None = None
        self.asked: list[str] = []
        """Path and query of every question."""
        self._loop = asyncio.new_event_loop()
        self._runner: web.AppRunner | None = None
        threading.Thread(target=self._loop.run_forever, daemon=True).start()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def start(self) -> None:
        asyncio.run_coroutine_threadsafe(self._start(), self._loop).result(10)

    def stop(self) -> None:
        assert self._runner is not None
        asyncio.run_coroutine_threadsafe(self._runner.cleanup(), self._loop).result(10)

    def close(self) -> None:
        self.stop()
        self._loop.call_soon_threadsafe(self._loop.stop)

    async def _start(self) -> None:
        app = web.Application(middlewares=[self._guarded])
        app.add_routes(routes())
        app.add_routes([web.get(path, answer) for path, answer in ANSWERS.items()])
        self._runner = web.AppRunner(app, shutdown_timeout=0.1)
        await self._runner.setup()
        site = web.TCPSite(self._runner, "127.0.0.1", self.port)
        await site.start()

    @web.middleware
    async def _guarded(self, request: web.Request, handler: Any) -> web.StreamResponse:
        if request.path.startswith("/v1/"):
            self.asked.append(request.path_qs)
            if self.key and request.headers.get("Authorization") != f"Bearer {self.key}":
                return problem(401, "Unauthorized", "No key was given that is known here.", "Give the key of a consumer.")
        response: web.StreamResponse = await handler(request)
        return response


def _exchange(name: str) -> dict[str, Any]:
    state = {"gateio": "quiet", "coinbase": "silent"}.get(name, "ok")
    rate = 0.0 if state == "silent" else 400 + 120 * wave(name) if state == "ok" else 0.4
    return {
        "exchange": name,
        "state": state,
        "events_per_second": rate,
        "trades_per_second": rate / 6,
        "lag_ms": None if state == "silent" else 14 + 9 * wave(name, "lag"),
        "age": 94.2 if state == "silent" else 0.2 + abs(wave(name)) / 3,
        "symbols": len(MIDS),
        "books": len(MIDS),
        "books_recovering": int(name == RECOVERING[0]),
        "gaps": {"coinbase": 3, "htx": 12}.get(name, 0),
    }


async def status(_: web.Request) -> web.Response:
    exchanges = [_exchange(name) for name in VENUES]
    body = {
        "time": now(),
        "uptime": time() % 90_000,
        "stored": int(time() * 2000) % 10**10,
        "status": "ok",
        "trouble": None,
        "collectors": ["amsterdam-1", "tokyo-1"],
        "events_per_second": sum(each["events_per_second"] for each in exchanges),
        "journal": {"bytes": 81_264_912, "pending": 12},
        "exchanges": exchanges,
    }
    return web.json_response(body)


async def history(_: web.Request) -> web.Response:
    seconds = range(int(time()) - 599, int(time()) + 1)

    def series(size: float, phase: int) -> list[float | None]:
        hole = int(time()) - 130
        return [
            None if hole < at < hole + 12 and phase else size * (1 + 0.16 * sin(at / 9 + phase) + 0.1 * sin(at * 2.3 + phase))
            for at in seconds
        ]

    exchanges = {
        name: {"events_per_second": series(400, index), "lag_ms": series(14, index)} for index, name in enumerate(VENUES)
    }
    body = {"step": 1.0, "time": [at * 1_000_000 for at in seconds], "events_per_second": series(2400, 0)}
    return web.json_response({**body, "lag_ms": series(13, 0), "exchanges": exchanges})


def _price(feed: str) -> dict[str, Any]:
    mid = MIDS.get(f"{feed.removesuffix('/USD')}/USDT", 1.0)
    if feed == "NIGHT/USD":
        reason = "2 sources can be used, 3 are needed."
        return {"price": None, "method": "weighted_median", "spread_bps": None, "confidence": None, "reason": reason}
    price = mid * (1 + 0.0004 * wave(feed))
    confidence = 0.97 + 0.02 * wave(feed)
    return {
        "price": price,
        "method": "weighted_median",
        "spread_bps": 2.1 + wave(feed),
        "confidence": confidence,
        "reason": None,
    }


async def prices(_: web.Request) -> web.Response:
    feeds = [f"{base}/USD" for base in FEEDS]
    rows = [{"feed": feed, **_price(feed), "used": 6, "refused": 2 if feed != "USDT/USD" else 0} for feed in feeds]
    return web.json_response({"time": now(), "prices": rows})


async def price(request: web.Request) -> web.Response:
    feed = request.query["feed"]
    answer = _price(feed)
    symbol = f"{feed.removesuffix('/USD')}/USDT"
    at = answer["price"]
    used = [
        {
            "exchange": name,
            "symbol": symbol,
            "price": at * (1 + 0.0001 * wave(name, feed)),
            "raw": f"{at * (1 + 0.0001 * wave(name)):.6g}",
            "age": 0.2 + abs(wave(name)),
            "weight": weight,
            "deviation_bps": 1.4 * wave(name),
        }
        for name, weight in zip(VENUES, (0.31, 0.22, 0.18, 0.14, 0.1, 0.05), strict=False)
        if at is not None
    ]
    stale = {"reason": "stale", "detail": "its last trade is 94 s old, 30 s are allowed", "raw": "71190.1", "age": 94.2}
    far = {"reason": "outlier", "detail": "212.4 bps from the median, 100 are allowed", "raw": "72801.00", "age": 0.8}
    refused = [{"exchange": "coinbase", "symbol": feed, **stale}, {"exchange": "htx", "symbol": symbol, **far}]
    conversions = [{"from": "USDT", "to": "USD", "price": 0.99984, "sources": 5, "age": 0.6}]
    return web.json_response(
        {"feed": feed, "time": now(), **answer, "used": used, "refused": refused, "conversions": conversions}
    )


def _state(exchange: str, symbol: str) -> str:
    return "recovering" if (exchange, symbol) == RECOVERING else {"coinbase": "stale"}.get(exchange, "live")


async def symbols(_: web.Request) -> web.Response:
    rows = [{"symbol": symbol, "exchanges": VENUES, "books": VENUES} for symbol in MIDS if symbol != "PEPE/USDT"]
    few = {"symbol": "PEPE/USDT", "exchanges": ["okx", "binance"], "books": ["okx"]}
    return web.json_response({"symbols": [*rows, few]})


async def book(request: web.Request) -> web.Response:
    exchange, symbol, depth = request.query["exchange"], request.query["symbol"], int(request.query["depth"])
    if symbol not in MIDS or exchange not in VENUES:
        return problem(404, "No such market", f"Nothing was heard of {exchange} {symbol}.", "Ask /v1/symbols what there is.")
    body: dict[str, Any] = {"exchange": exchange, "symbol": symbol, "state": _state(exchange, symbol)}
    if (exchange, symbol) == RECOVERING:
        absent = dict.fromkeys(("timestamp", "received", "age", "sequence", "bids", "asks"))
        return web.json_response({**body, **absent})
    mid = MIDS[symbol] * (1 + 0.0002 * wave(exchange))
    digits = max(1, 5 - len(str(int(mid)))) if mid >= 0.1 else 9
    tick = mid / 200_000

    def side(sign: int) -> list[tuple[str, str]]:
        return [
            (f"{mid + sign * tick * (n + 1):.{digits}f}", f"{2.5 + 2.4 * wave(exchange, sign, n):.5f}000") for n in range(depth)
        ]

    body |= {"timestamp": now(), "received": now(), "age": 0.3, "sequence": None}
    return web.json_response({**body, "bids": side(-1), "asks": side(1)})


async def candles(request: web.Request) -> web.Response:
    symbol, interval = request.query["symbol"], request.query["interval"]
    width = WIDTHS[interval] * 1_000_000
    exchange = request.query.get("exchange", "")
    starts = range(int(request.query["start"]), now(), width)[: int(request.query["limit"])]
    rows = [_candle(exchange, symbol, interval, start, width) for start in starts]
    return web.json_response({"rows": rows, "cursor": None})


def _candle(exchange: str, symbol: str, interval: str, start: int, width: int) -> dict[str, Any]:
    mid, digits = MIDS[symbol], 9 if MIDS[symbol] < 0.1 else 5 if MIDS[symbol] < 10 else 1

    def at(moment: float) -> float:
        return mid * (
            1 + 0.004 * sin(moment / width / 23e0) + 0.0015 * sin(moment / width * 1.7) + 0.001 * sin(moment / width / 5)
        )

    end = min(start + width, now())
    first, last = at(start), at(end)
    high, low = max(first, last) * 1.0006, min(first, last) * 0.9994
    texts = [f"{value:.{digits}f}" for value in (first, high, low, last)]
    return {
        "type": "candle",
        "exchange": exchange,
        "symbol": symbol,
        "timestamp": None,
        "received": end,
        "interval": interval,
        "start": start,
        **dict(zip(("open", "high", "low", "close"), texts, strict=True)),
        "volume": f"{12 + 9 * sin(start / width * 1.3):.4f}",
        "trades": 91,
        "closed": end == start + width,
        "position": start // width,
    }


async def gaps(request: web.Request) -> web.Response:
    told = now() // (20 * 60_000_000) * 20 * 60_000_000
    reasons = (
        ("htx", "BTC/USDT", "orderbooks", "checksum_mismatch", None, None, 4),
        ("coinbase", None, "trades", "connection_lost", None, None, None),
        ("kraken", "ETH/USDT", "trades", "missing_ids", "81236401", "81236417", 2),
        ("kraken", "ETH/USDT", "trades", "backfilled", "81236401", "81236417", 2),
        ("", None, "delivery", "spool_overflow", None, None, 31),
    )
    rows: list[dict[str, Any]] = []
    for index in range(40):
        exchange, symbol, channel, reason, first, last, lasting = reasons[index % len(reasons)]
        received = told - (40 - index) * 20 * 60_000_000
        row: dict[str, Any] = {
            "type": "gap",
            "exchange": exchange,
            "symbol": symbol,
            "timestamp": None,
            "received": received,
            "channel": channel,
        }
        row |= {"reason": reason, "first_missing": first, "last_missing": last, "since": received - 5_000_000}
        until = None if lasting is None else received - 5_000_000 + lasting * 1_000_000
        rows.append({**row, "until": until, "position": (7 << 32) + index + 1})
    return web.json_response({"rows": rows[-int(request.query["limit"]) :], "cursor": None})


async def completeness(request: web.Request) -> web.Response:
    rows: list[dict[str, Any]] = []
    for start in range(int(request.query["since"]) // HOUR * HOUR, now(), HOUR):
        for index, exchange in enumerate(VENUES):
            for symbol in ("BTC/USDT", "ETH/USDT"):
                lost = index == 3 and start // HOUR % 3 == 0
                missing = 94.2 if lost else 0.0
                row: dict[str, Any] = {
                    "exchange": exchange,
                    "symbol": symbol,
                    "channel": "trades",
                    "hour": start,
                    "events": 81_233,
                }
                ids = 17 if exchange == "kraken" and symbol == "ETH/USDT" and start // HOUR % 2 else 0
                row |= {"holes": int(lost or ids > 0), "missing_seconds": missing, "missing_ids": ids, "repaired": 0}
                rows.append({**row, "complete": round(1 - missing / 3600, 9)})
    return web.json_response({"rows": rows})


ANSWERS = {
    "/v1/status": status,
    "/v1/status/history": history,
    "/v1/prices/live": prices,
    "/v1/price": price,
    "/v1/symbols": symbols,
    "/v1/market/book": book,
    "/v1/candles": candles,
    "/v1/gaps": gaps,
    "/v1/completeness": completeness,
}


if __name__ == "__main__":
    stub = Stub(8767)
    stub.start()
    print(f"The page is at {stub.url}/")
    threading.Event().wait()
