"""The OpenAPI 3.1 document, made of the routes: what they say they ask and answer is what they read and encode."""

from collections.abc import Iterable
from http import HTTPStatus
from typing import Any

import msgspec

from master.history.questions import LAST
from master.web.endpoint import JSON, Nothing, Route, Time, accepted, parameters
from master.web.http import OPEN, PROBLEM, Problem

_REF = "#/components/schemas/{name}"
_MOMENT = {"anyOf": [{"type": "integer", "minimum": 0, "maximum": LAST}, {"type": "string", "format": "date-time"}]}
_DESCRIPTION = (
    "Prices and amounts are the venue's own text, times microseconds UTC, ages seconds. "
    "Whatever is wrong is told as application/problem+json, with `change`: what to change."
)


def document(routes: Iterable[Route], *, needs_key: bool) -> dict[str, Any]:
    """The document of these routes, `needs_key` as it is for those that are not open to all."""
    routes = list(routes)
    types = [kind for route in routes for kind in (route.answer, route.body) if kind is not None]
    schemas, components = msgspec.json.schema_components([*types, Problem], ref_template=_REF)
    by_type = dict(zip([*types, Problem], schemas, strict=True))
    paths: dict[str, dict[str, Any]] = {}
    for route in routes:
        operation = _operation(route, by_type)
        if needs_key and route.path not in OPEN:
            operation["security"] = [{"key": []}]
        paths.setdefault(route.path, {})[route.method.lower()] = operation
    return {
        "openapi": "3.1.0",
        "info": {"title": "Market-data master", "version": "1.0.0", "description": _DESCRIPTION},
        "paths": paths,
        "components": {"schemas": components, "securitySchemes": {"key": {"type": "http", "scheme": "bearer"}}},
    }


def _operation(route: Route, by_type: dict[Any, Any]) -> dict[str, Any]:
    operation: dict[str, Any] = {
        "operationId": f"{route.method.lower()} {route.path}",
        "summary": route.summary,
        "parameters": _parameters(route),
        "responses": _responses(route, by_type),
    }
    if route.body is not None:
        operation["requestBody"] = {"required": True, "content": {JSON: {"schema": by_type[route.body]}}}
    return operation


def _parameters(route: Route) -> list[dict[str, Any]]:
    found = []
    for name, field in parameters(route.asked).items():
        in_path = f"{{{name}}}" in route.path
        schema = msgspec.json.schema(field.type, schema_hook=_hook)
        schema.pop("description", None)
        if not field.required and field.default is not None:
            schema["default"] = field.default
        found.append(
            {
                "name": name,
                "in": "path" if in_path else "query",
                "required": field.required,
                "description": accepted(field),
                "schema": schema,
            }
        )
    return found


def _responses(route: Route, by_type: dict[Any, Any]) -> dict[str, Any]:
    content = {media: {"schema": by_type[route.answer]} if media == JSON else {} for media in route.media}
    usual = (401, 429, 500) if route.asked is Nothing and route.body is None else (400, 401, 429, 500)
    of_body = () if route.body is None else (408, 413)
    responses = {str(status): _problem(status, by_type) for status in sorted({*usual, *of_body, *route.errors})}
    if route.failing:
        responses["503"] = {"description": "It cannot store", "content": content}
    return {"200": {"description": "The answer", "content": content}, **responses}


def _problem(status: int, by_type: dict[Any, Any]) -> dict[str, Any]:
    return {"description": HTTPStatus(status).phrase, "content": {PROBLEM: {"schema": by_type[Problem]}}}


def _hook(kind: type) -> dict[str, Any]:
    if kind is Time:
        return _MOMENT
    raise NotImplementedError  # what msgspec asks of a hook for a type that it does not know
