"""One route of the API as data: what may be asked, and what is answered. The routes and their OpenAPI document are made of it.

What may be asked is a Struct whose fields are the parameters in path and query: their types say what is accepted, and their
`Meta(description=...)` says it to people, in the document and in the errors.
"""

import asyncio
from collections.abc import Awaitable, Callable, Iterable
from functools import cache
from typing import Any, TypeVar

import msgspec
from aiohttp import web
from msgspec import Struct
from msgspec.structs import FieldInfo, fields

from master.history.questions import moment
from master.web.http import ApiError
from master.web.rooms import Rooms

JSON = "application/json"
BODY_WITHIN = 10.0
"""Seconds in which the body of a request must have come."""

Asked = TypeVar("Asked", bound=Struct)


class Nothing(Struct):
    """No parameters."""


class Time(int):
    """Microseconds UTC, written as questions.moment reads it."""


class Route(Struct, frozen=True):
    """`handler(rooms, asked)`, or `(rooms, asked, body)`, returns what is encoded as JSON, or a whole response."""

    method: str
    path: str
    handler: Callable[..., Awaitable[Any]]
    summary: str
    answer: Any = None
    """Type of the JSON that is answered."""
    asked: type[Struct] = Nothing
    body: type[Struct] | None = None
    media: tuple[str, ...] = (JSON,)
    errors: tuple[int, ...] = ()
    """Statuses of its problems, beside those that any route has."""
    failing: bool = False
    """Whether the same JSON comes with status 503 as well."""

    def bound(self, rooms: Rooms) -> web.RouteDef:
        """For the application."""
        body = None if self.body is None else msgspec.json.Decoder(self.body)

        async def handle(request: web.Request) -> web.StreamResponse:
            asked = read(self.asked, (*request.match_info.items(), *request.query.items()))
            answer = await (
                self.handler(rooms, asked) if body is None else self.handler(rooms, asked, await _body(request, body))
            )
            return answer if isinstance(answer, web.StreamResponse) else as_json(answer)

        return web.route(self.method, self.path, handle)


def as_json(answer: Any, status: int = 200) -> web.Response:
    return web.Response(body=_encoder.encode(answer), status=status, content_type=JSON)


_encoder = msgspec.json.Encoder()


async def _body(request: web.Request, decoder: msgspec.json.Decoder[Any]) -> Any:
    """Raises ApiError."""
    try:
        async with asyncio.timeout(BODY_WITHIN):
            return decoder.decode(await request.read())
    except TimeoutError as error:
        raise ApiError(408, "the body of the request did not come", "send it at once") from error
    except web.RequestPayloadError as error:
        raise ApiError(400, "body: cut short, or not encoded as its headers say", "send it whole") from error
    except msgspec.MsgspecError as error:
        raise ApiError(400, f"body: {error}", "send JSON as /openapi.json describes it") from error


def read(model: type[Asked], given: Iterable[tuple[str, str]]) -> Asked:
    """What was asked. A parameter without a text counts as not given. Raises ApiError, which names each that is wrong."""
    known = parameters(model)
    values: dict[str, Any] = {}
    wrong: dict[str, str] = {}
    for name, text in given:
        if name not in known:
            wrong[f"{name[:100]!r} is no parameter of this path"] = f"known here: {', '.join(known) or 'none'}"
        elif name in values:
            wrong[f"{name} is given twice"] = "give it once"
        elif text:
            try:
                values[name] = msgspec.convert(text, known[name].type, strict=False, dec_hook=_converted)
            except (msgspec.ValidationError, ValueError):
                wrong[f"{name}: {text[:100]!r} is not understood"] = f"{name}: {accepted(known[name])}"
    for name, field in known.items():
        if field.required and name not in values:
            wrong.setdefault(f"{name} is missing", f"{name}: {accepted(field)}")
    if wrong:
        raise ApiError(400, "; ".join(wrong), "; ".join(dict.fromkeys(wrong.values())))
    return model(**values)


@cache
def parameters(model: type[Struct]) -> dict[str, FieldInfo]:
    return {field.name: field for field in fields(model)}


def accepted(field: FieldInfo) -> str:
    """What a parameter takes, as people read it."""
    description: str = field.type.__metadata__[0].description
    return description


def _converted(kind: type, text: Any) -> Any:
    return Time(moment(text)) if kind is Time else text
