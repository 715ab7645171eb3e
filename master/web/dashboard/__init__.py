"""The page at `/`: its files, and the headers they are served with. Who asks for them needs no key; who asks for data may.

`/` is `index.html`, and `/dashboard/NAME` each other file of the page. There is nothing to build.
"""

from pathlib import Path

from aiohttp import web

_ROOT = Path(__file__).parent
_KINDS = {".html": "text/html", ".css": "text/css", ".js": "text/javascript", ".svg": "image/svg+xml"}
"""Told here, as a browser runs no script of another type, and the system's own table of types may be wrong."""

FILES = {path.relative_to(_ROOT).as_posix(): path for path in sorted(_ROOT.rglob("*")) if path.suffix in _KINDS}
"""Name to path. Only these are served, so that no name can lead elsewhere."""

HEADERS = {
    "Content-Security-Policy": "default-src 'self'; "
    # the one style element that lightweight-charts makes, for its attribution
    "style-src 'self' 'sha256-3pRED1tOXas1FXFoPb9TGCjmYe9XQsmO9OV23khV2nY='; "
    "object-src 'none'; base-uri 'none'; form-action 'self'; frame-ancestors 'none'",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cache-Control": "no-cache",  # ask whether it changed: an old page must not meet a new master
}


def routes() -> list[web.RouteDef]:
    """What an application adds to serve the page."""
    return [web.get("/", _index), web.get("/dashboard/{name:.+}", _file)]


async def _index(_: web.Request) -> web.FileResponse:
    return _response(FILES["index.html"])


async def _file(request: web.Request) -> web.FileResponse:
    path = FILES.get(request.match_info["name"])
    if path is None:
        raise web.HTTPNotFound
    return _response(path)


def _response(path: Path) -> web.FileResponse:
    return web.FileResponse(path, headers={**HEADERS, "Content-Type": f"{_KINDS[path.suffix]}; charset=utf-8"})
