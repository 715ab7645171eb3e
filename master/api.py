"""HTTP of the master: /health and /metrics."""

from aiohttp import web

from master.metrics import Vitals


def application(vitals: Vitals) -> web.Application:
    async def health(_: web.Request) -> web.Response:
        report = vitals.health()
        return web.json_response(report, status=200 if report["status"] == "ok" else 503)

    async def metrics(_: web.Request) -> web.Response:
        return web.Response(body=vitals.exposition(), headers={"Content-Type": CONTENT_TYPE})

    app = web.Application()
    app.add_routes([web.get("/health", health), web.get("/metrics", metrics)])
    return app


CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"
