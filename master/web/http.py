"""What every HTTP request passes: how often, and with which key, one may ask; and how anything that is wrong is told.

Whatever is wrong is told as application/problem+json (RFC 9457), with one member more: `change`, what to change.
"""

from collections.abc import Callable, Mapping
from http import HTTPStatus
from math import ceil
from time import monotonic
from typing import TypeVar

import msgspec
from aiohttp import web
from aiohttp.typedefs import Handler
from msgspec import Struct

from master import auth
from master.guard import Guard
from master.keys import KeyRing
from master.log import logger
from master.settings import Http
from master.web.metrics import Usage
from master.web.rate import Rate

log = logger("http")

PROBLEM = "application/problem+json"
MOST_BODY = 256 << 10
"""Bytes of a request's body."""
OPEN = ("/health/live", "/health/ready", "/openapi.json", "/")
"""Paths that need no key, and all that begins with `OPEN_BELOW`: probes have none, and the page asks for one."""
OPEN_BELOW = "/dashboard/"
PROBES = ("/health/live", "/health/ready")
"""Asked by what restarts programs: never told to wait."""
READERS: tuple[auth.Role, ...] = ("consumer", "admin")

_HEADERS = {
    "Content-Security-Policy": "default-src 'none'; frame-ancestors 'none'",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cache-Control": "no-store",
}
"""Of every answer that does not say otherwise, as those of the page do."""
_EXPOSED = "X-Next-Cursor, Retry-After"
_ALLOWED = {
    "Access-Control-Allow-Methods": "GET, POST",
    "Access-Control-Allow-Headers": "Authorization, Content-Type",
    "Access-Control-Max-Age": "600",
}
_CHANGES = {
    404: "GET /openapi.json lists the paths there are",
    405: "use one of the methods in the header Allow",
    413: f"send at most {MOST_BODY >> 10} KiB",
}


class Problem(Struct):
    """What is wrong (RFC 9457), and what to change."""

    title: str
    status: int
    detail: str
    change: str
    type: str = "about:blank"


class ApiError(Exception):
    """A question that is not answered: the status, what is wrong, and what whoever asked should change."""

    def __init__(self, status: int, detail: str, change: str, headers: Mapping[str, str] | None = None) -> None:
        super().__init__(detail)
        self.status = status
        self.detail = detail
        self.change = change
        self.headers = headers or {}

    @property
    def response(self) -> web.Response:
        problem = Problem(HTTPStatus(self.status).phrase, self.status, self.detail, self.change)
        body = msgspec.json.encode(problem)
        return web.Response(body=body, status=self.status, content_type=PROBLEM, headers=self.headers)


Response = TypeVar("Response", bound=web.StreamResponse)


def sealed(response: Response) -> Response:
    """With the headers that every answer has."""
    for name, value in _HEADERS.items():
        response.headers.setdefault(name, value)
    return response


def as_problem(error: web.HTTPException) -> ApiError:
    """What the library refuses by itself, in our form."""
    headers = {name: error.headers[name] for name in ("Allow",) if name in error.headers}
    detail = error.reason if error.status != 404 else "there is nothing at this path"
    return ApiError(error.status, detail, _CHANGES.get(error.status, "see docs/api.md"), headers)


class Gate:
    """Between the port and the routes; `middleware` is the only one of the application."""

    def __init__(
        self, settings: Http, ring: KeyRing, usage: Usage, *, needs_key: bool, clock: Callable[[], float] = monotonic
    ) -> None:
        self.needs_key = needs_key
        self._origins = frozenset(settings.cors)
        self._ring = ring
        self._usage = usage
        self._clock = clock
        self._rate = None if settings.rate is None else Rate(settings.rate)
        self._guard = Guard()
        self._decoy = auth.new_nonce()
        self._log = log.bind()  # once: what the log leaves out costs next to nothing then

    @web.middleware
    async def middleware(self, request: web.Request, handler: Handler) -> web.StreamResponse:
        began = self._clock()
        response = sealed(await self._answer(request, handler))
        if self._origins:
            self._share(request, response)
        self._count(request, response.status, self._clock() - began)
        return response

    async def _answer(self, request: web.Request, handler: Handler) -> web.StreamResponse:
        try:
            self._may_ask(request)
            if request.method == "OPTIONS" and "Access-Control-Request-Method" in request.headers:
                return self._preflight(request)
            self._may_read(request)
            return await handler(request)
        except ApiError as error:
            return error.response
        except web.HTTPException as error:
            return as_problem(error).response
        except Exception:
            log.exception("a request failed", method=request.method, path=request.path)
            return ApiError(500, "the master failed at this", "report it, with the line of the master's log").response

    def _count(self, request: web.Request, status: int, seconds: float) -> None:
        resource = request.match_info.route.resource
        route = "none" if resource is None else resource.canonical  # never the path: anybody may ask for any
        self._usage.requests[route, status] += 1
        # Of health one is told what is wrong again and again; the log has said it once.
        told = self._log.warning if status >= 500 and not request.path.startswith("/health") else self._log.debug
        told("request", method=request.method, path=request.path, status=status, seconds=round(seconds, 6))

    # How often.

    def _may_ask(self, request: web.Request) -> None:
        """Raises ApiError."""
        if self._rate is None or request.path in PROBES:
            return
        if pause := self._rate.take(_address(request), self._clock()):
            raise _too_many("more requests from this address than server.http.rate allows", "ask less often", pause)

    # With which key.

    def _may_read(self, request: web.Request) -> None:
        """Raises ApiError. An unknown key and a wrong one look the same from outside."""
        if not self.needs_key or request.path in OPEN or request.path.startswith(OPEN_BELOW):
            return
        address = _address(request)
        if pause := self._guard.pause(address, self._clock()):
            raise _too_many("too many wrong keys from this address", "use a key that is live", pause)
        scheme, _, key = request.headers.get("Authorization", "").partition(" ")
        if scheme.lower() != "bearer":
            raise _unauthorised("a key is needed here, and none was given")
        if self._is_live(key.strip()):
            self._guard.trust(address, self._clock())
            return
        kid, _ = auth.split_key(key.strip())
        log.warning("key refused", address=address, key=self._ring.describe(kid))
        if pause := self._guard.failed(address, self._clock()):
            log.error("too many wrong keys; the address has to wait", address=address, seconds=pause)
        raise _unauthorised("this key is not live, or may not read")

    def _is_live(self, key: str) -> bool:
        kid, shown = auth.split_key(key if key.isascii() else "")
        live = (self._ring.secret(kid, role) for role in READERS)
        secret = next((each for each in live if each is not None), None)
        # Whoever shows a key that is none costs the same work, and learns nothing from the time it takes.
        return auth.is_same(shown, secret or self._decoy) and secret is not None

    # From which pages (CORS).

    def _preflight(self, request: web.Request) -> web.Response:
        """A browser asks whether a page of another origin may. Raises ApiError."""
        if not self._is_shared(origin := request.headers.get("Origin", "")):
            raise ApiError(403, f"pages of {origin[:200]!r} may not ask", "add the origin to server.http.cors")
        return web.Response(status=204, headers=_ALLOWED)

    def _is_shared(self, origin: str) -> bool:
        return origin in self._origins or "*" in self._origins

    def _share(self, request: web.Request, response: web.StreamResponse) -> None:
        response.headers["Vary"] = "Origin"
        origin = request.headers.get("Origin")
        if origin is not None and self._is_shared(origin):
            response.headers["Access-Control-Allow-Origin"] = "*" if "*" in self._origins else origin
            response.headers["Access-Control-Expose-Headers"] = _EXPOSED


def _address(request: web.Request) -> str:
    return request.remote or "?"


def _unauthorised(detail: str) -> ApiError:
    change = "send Authorization: Bearer KEY with a consumer or admin key; python -m master keys new --role consumer makes one"
    return ApiError(401, detail, change, {"WWW-Authenticate": 'Bearer realm="master"'})


def _too_many(detail: str, change: str, pause: float) -> ApiError:
    return ApiError(429, detail, f"{change}, and again in {ceil(pause)} s", {"Retry-After": str(ceil(pause))})
