"""The HTTP API as an application: its routes behind the gate, their document, and the page."""

from collections.abc import Iterable
from typing import Any

from aiohttp import web
from msgspec import Struct

from master.web.endpoint import Route
from master.web.http import MOST_BODY, Gate
from master.web.openapi import document
from master.web.rooms import Rooms
from master.web.routes import ROUTES


def application(rooms: Rooms, gate: Gate, page: Iterable[web.RouteDef] = ()) -> web.Application:
    """`page`: what else is served, for people to look at."""

    async def describe(_: Rooms, __: Struct) -> Any:
        return described

    routes = (*ROUTES, Route("GET", "/openapi.json", describe, "This document", dict[str, Any]))
    described = document(routes, needs_key=gate.needs_key)
    app = web.Application(middlewares=[gate.middleware], client_max_size=MOST_BODY)
    app.add_routes([*(route.bound(rooms) for route in routes), *page])
    return app
