"""The port of the API: how many may be connected, how long without asking, and what is no HTTP told as any other problem."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from functools import partial
from socket import socket
from ssl import SSLContext

from aiohttp import web

from master.log import logger
from master.web.endpoint import as_json
from master.web.http import ApiError, as_problem, sealed
from master.web.shapes import Alive

log = logger("http")

Handle = Callable[[web.BaseRequest], Awaitable[web.StreamResponse]]

IDLE = 30.0
"""Seconds in which the head of a request must have come as a whole: from the beginning of a connection, or the last answer."""
MOST_REFUSED = 64
"""Connections for which there is no room, and which are told so. Any more are closed without a word."""
REFUSED_WITHIN = 5.0
"""Seconds in which they must have asked, to be told."""
HANDSHAKE_WITHIN = 10.0
"""Seconds for that of TLS. Who has not got through it is not counted yet."""
SHUTDOWN_WITHIN = 2.0


class Connection(web.RequestHandler):
    """What is no HTTP never reaches the application: here it gets its problem."""

    def __init__(self, server: web.Server, idle: float) -> None:
        loop = asyncio.get_running_loop()
        super().__init__(server, loop=loop, access_log=None, keepalive_timeout=idle)  # type: ignore[arg-type]  # None is allowed

    def handle_error(
        self, request: web.BaseRequest, status: int = 500, exc: BaseException | None = None, message: str | None = None
    ) -> web.StreamResponse:
        if status != 400:  # a fault of ours, outside of the gate
            return super().handle_error(request, status, exc, message)
        what = (message or "not understood").partition("\n")[0].rstrip(":. ")
        log.debug("no HTTP", address=request.remote, kind=type(exc).__name__)  # what was sent may hold a key
        return _last(ApiError(400, f"this is no HTTP: {what[:200]}", "send HTTP/1.1; https only where server.tls_cert is set"))


class _Closed(asyncio.Protocol):
    """One connection too many."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        transport.abort()


@asynccontextmanager
async def listening(app: web.Application, on: socket, most: int, tls: SSLContext | None = None) -> AsyncIterator[None]:
    """Serve on this socket, at most so many connections at once (some more where many come within one turn of the loop)."""
    runner = web.AppRunner(app, shutdown_timeout=SHUTDOWN_WITHIN)
    await runner.setup()
    serving, full = runner.server, web.Server(_tell_full)
    assert serving is not None
    serving.request_handler = partial(_told, serving.request_handler)
    accept = partial(_accept, serving, full, most)
    handshake = HANDSHAKE_WITHIN if tls else None
    server = await asyncio.get_running_loop().create_server(accept, sock=on, ssl=tls, ssl_handshake_timeout=handshake)
    try:
        yield
    finally:
        server.close()
        await full.shutdown(0)
        await runner.cleanup()


def _accept(serving: web.Server, full: web.Server, most: int) -> asyncio.Protocol:
    if len(serving.connections) < most:
        return Connection(serving, IDLE)
    if len(full.connections) < MOST_REFUSED:
        return Connection(full, REFUSED_WITHIN)
    return _Closed()


async def _told(handle: Handle, request: web.BaseRequest) -> web.StreamResponse:
    """What the library refuses before the gate (Expect) as a problem too."""
    try:
        return await handle(request)
    except web.HTTPException as error:
        return _last(as_problem(error))


async def _tell_full(request: web.BaseRequest) -> web.StreamResponse:
    """Whoever restarts programs is told that this one runs: it would not help."""
    if request.path == "/health/live":
        answer = sealed(as_json(Alive()))
        answer.force_close()
        return answer
    change = "close connections that are not used, or raise server.http.connections"
    return _last(ApiError(503, "no more connections than server.http.connections are served", change, {"Retry-After": "1"}))


def _last(error: ApiError) -> web.Response:
    """The last answer of its connection."""
    answer = sealed(error.response)
    answer.force_close()
    return answer
