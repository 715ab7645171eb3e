"""`/_simulator/`: the truth, and the controls, for tests and oracles in other processes. JSON in, JSON out."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING

import orjson
from aiohttp import web

if TYPE_CHECKING:
    from simulator.server import Simulator

Handler = Callable[[web.Request], Awaitable[web.Response]]


def routes(simulator: Simulator) -> list[web.RouteDef]:
    """The routes of one simulator; what it refuses (ValueError) is a 400 with `{"error": ...}`."""

    async def arm(request: web.Request) -> object:
        simulator.arm(str((await _body(request)).get("spec")))
        return {"armed": True}

    async def clear(_: web.Request) -> object:
        simulator.clear()
        return {"armed": False}

    async def fired(_: web.Request) -> object:
        return simulator.fired()

    async def stats(_: web.Request) -> object:
        return simulator.stats()

    async def trades(request: web.Request) -> object:
        exchange, symbol = _pair(request)
        return simulator.trades(exchange, symbol, _integer(request, "after", 0))

    async def book(request: web.Request) -> object:
        exchange, symbol = _pair(request)
        return simulator.book(exchange, symbol, _integer(request, "depth", 1000))

    async def pause(_: web.Request) -> object:
        simulator.pause()
        return {"paused": True}

    async def resume(_: web.Request) -> object:
        simulator.resume()
        return {"paused": False}

    async def facts(request: web.Request) -> object:
        body = await _body(request)
        exchange = str(body.pop("exchange", ""))
        simulator.change(exchange, body)
        return {"exchange": exchange, **body}

    return [
        web.post("/_simulator/faults", _json(arm)),
        web.delete("/_simulator/faults", _json(clear)),
        web.get("/_simulator/faults", _json(fired)),
        web.get("/_simulator/stats", _json(stats)),
        web.get("/_simulator/trades", _json(trades)),
        web.get("/_simulator/book", _json(book)),
        web.post("/_simulator/pause", _json(pause)),
        web.post("/_simulator/resume", _json(resume)),
        web.post("/_simulator/facts", _json(facts)),
    ]


def _json(answer: Callable[[web.Request], Awaitable[object]]) -> Handler:
    async def handle(request: web.Request) -> web.Response:
        try:
            body, status = await answer(request), 200
        except ValueError as error:
            body, status = {"error": str(error)}, 400
        return web.Response(body=orjson.dumps(body), status=status, content_type="application/json")

    return handle


async def _body(request: web.Request) -> dict[str, object]:
    body = orjson.loads(await request.read())
    if not isinstance(body, dict):
        raise ValueError("expected a JSON object")  # noqa: TRY004  the caller's mistake, like the others
    return body


def _pair(request: web.Request) -> tuple[str, str]:
    return request.query.get("exchange", ""), request.query.get("symbol", "")


def _integer(request: web.Request, name: str, default: int) -> int:
    text = request.query.get(name, str(default))
    if not text.isdecimal():
        raise ValueError(f"{name} must be a whole number, not {text!r}")
    return int(text)
