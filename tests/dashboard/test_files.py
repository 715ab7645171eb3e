"""How the page's files are served: only these, with a strict policy, and the vendored ones as they were published."""

import hashlib
import re

import pytest
from aiohttp import web
from aiohttp.test_utils import TestClient, TestServer

from master.web.dashboard import FILES, routes

README = (FILES["index.html"].parent / "vendor" / "README.md").read_text()


async def _client() -> TestClient[web.Request, web.Application]:
    app = web.Application()
    app.add_routes(routes())
    return TestClient(TestServer(app))


async def test_each_file_is_served_with_the_policy_and_its_type() -> None:
    async with await _client() as client:
        for path in ["/", *(f"/dashboard/{name}" for name in FILES)]:
            answer = await client.get(path)
            assert answer.status == 200, path
            assert answer.headers["Content-Security-Policy"].startswith("default-src 'self'; ")
            assert "unsafe" not in answer.headers["Content-Security-Policy"]
            kinds = {"js": "text/javascript", "css": "text/css", "svg": "image/svg+xml"}
            assert answer.content_type == kinds.get(path.rpartition(".")[2], "text/html"), path
            modified = {"If-Modified-Since": answer.headers["Last-Modified"]}
            assert (await client.get(path, headers=modified)).status == 304


@pytest.mark.parametrize("name", ["__init__.py", "vendor/README.md", "../api.py", "..%2Fapi.py", "vendor/", "nothing.js"])
async def test_nothing_else_is_served(name: str) -> None:
    async with await _client() as client:
        assert (await client.get(f"/dashboard/{name}")).status == 404


def test_the_page_has_no_inline_script_or_style_and_names_only_its_own_files() -> None:
    page = FILES["index.html"].read_text()
    assert not re.search(r"<style|<script>|\sstyle=|\son\w+=", page)
    named = re.findall(r'(?:src|href)="(?!#)([^"]+)"', page)
    assert {name.removeprefix("/dashboard/") for name in named} <= set(FILES)
    for name, path in FILES.items():
        if name.endswith(".js") and "vendor" not in name:
            assert set(re.findall(r'from "\./([^"]+)"', path.read_text())) <= set(FILES), name
            assert "innerHTML" not in path.read_text(), name


def test_what_is_vendored_is_what_was_published() -> None:
    sums = dict(re.findall(r"\| `([^`]+)` \|.*\| `([0-9a-f]{64})` \|", README))
    vendored = {name.removeprefix("vendor/"): path for name, path in FILES.items() if name.startswith("vendor/")}
    assert sums == {name: hashlib.sha256(path.read_bytes()).hexdigest() for name, path in vendored.items()}
