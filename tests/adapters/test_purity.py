"""Who may import whom: adapters are pure, and the rooms depend on each other one way only."""

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]

IMPURE = {
    *("asyncio", "concurrent", "contextvars", "multiprocessing", "queue", "sched", "signal", "subprocess", "threading"),
    *("os", "pathlib", "shutil", "tempfile", "glob", "io", "logging", "socket", "ssl", "select", "selectors", "http", "urllib"),
    *(
        "time",
        "random",
        "secrets",
        "uuid",
        "numpy",
        "aiohttp",
        "httpx",
        "picows",
        "requests",
        "uvloop",
        "websockets",
        "websocket",
    ),
}
"""Sockets, clocks, tasks, locks, randomness, files: a machine that is fed with bytes and ticks needs none of them."""
HARMLESS = {"urllib.parse"}
WITH_FILES = {"__main__.py", "decode.py"}
"""The command line reads a file; the library behind it takes lines."""

ROOMS = {"adapters": set(), "master": {"adapters"}, "collector": {"adapters", "master"}, "simulator": set()}
"""A room, and those it may import. The simulator is an independent witness."""


def imports(source: str) -> set[str]:
    """The dotted names that a source imports, wherever in it the statement stands."""
    names = set()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            base = "." * node.level + (node.module or "")
            names |= {base, *(f"{base}.{alias.name}" for alias in node.names)}
        elif isinstance(node, ast.Call) and getattr(node.func, "id", getattr(node.func, "attr", "")) in (
            "__import__",
            "import_module",
        ):
            names |= {each.value for each in node.args if isinstance(each, ast.Constant) and isinstance(each.value, str)}
    return names


def sources(room: str) -> Iterator[Path]:
    return (path for path in sorted((ROOT / room).rglob("*.py")) if "__pycache__" not in path.parts)


def impure(source: str) -> set[str]:
    found = {name for name in imports(source) if name.split(".")[0] in IMPURE}
    return {name for name in found if not any(name == each or name.startswith(f"{each}.") for each in HARMLESS)} - {"urllib"}


def foreign(room: str, source: str) -> set[str]:
    """Rooms that a source imports and may not."""
    return {name.split(".")[0] for name in imports(source)} & (ROOMS.keys() - ROOMS[room] - {room})


def clocks(source: str) -> set[str]:
    """Calls such as `datetime.now()`, which need no import that looks like a clock."""
    calls = [node.func for node in ast.walk(ast.parse(source)) if isinstance(node, ast.Call)]
    return {call.attr for call in calls if isinstance(call, ast.Attribute)} & {"now", "utcnow", "today"}


@pytest.mark.parametrize(
    "path", [path for path in sources("adapters") if path.name not in WITH_FILES], ids=lambda path: path.name
)
def test_an_adapter_has_no_socket_clock_task_or_randomness(path: Path) -> None:
    assert impure(path.read_text(encoding="utf-8")) == set()


@pytest.mark.parametrize("path", list(sources("adapters")), ids=lambda path: path.name)
def test_an_adapter_reads_no_clock_by_another_name(path: Path) -> None:
    assert clocks(path.read_text(encoding="utf-8")) == set()


@pytest.mark.parametrize("room", ROOMS)
def test_rooms_import_one_way(room: str) -> None:
    wrong = {path.name: names for path in sources(room) if (names := foreign(room, path.read_text(encoding="utf-8")))}
    assert wrong == {}


@pytest.mark.parametrize("room", ROOMS)
def test_no_room_imports_its_tests(room: str) -> None:
    assert [
        path.name for path in sources(room) if any(name.split(".")[0] == "tests" for name in imports(path.read_text()))
    ] == []


def test_importing_every_adapter_loads_nothing_that_could_reach_a_network() -> None:
    program = (
        "import sys; from adapters import decode, registry\n"
        "for name in registry.NAMES: registry.adapter(name)\n"
        "print(sorted({'asyncio', 'aiohttp', 'picows', 'websockets', 'uvloop', 'socket', 'ssl'} & sys.modules.keys()))"
    )
    command = [sys.executable, "-c", program]
    assert subprocess.run(command, capture_output=True, check=True, text=True, cwd=ROOT).stdout == "[]\n"


def test_a_worker_process_loads_nothing_that_it_has_no_use_for() -> None:
    program = "import sys, collector.supervisor\nprint(sorted({'duckdb', 'pyarrow', 'pydantic'} & sys.modules.keys()))"
    command = [sys.executable, "-c", program]
    assert subprocess.run(command, capture_output=True, check=True, text=True, cwd=ROOT).stdout == "[]\n"


@pytest.mark.parametrize(
    ("source", "found"),
    [
        ("import time", {"time"}),
        ("from time import monotonic", {"time", "time.monotonic"}),
        ("import os.path as p", {"os.path"}),
        ("def f():\n    import asyncio", {"asyncio"}),
        ("try:\n    import uvloop\nexcept ImportError:\n    pass", {"uvloop"}),
        ("from urllib.parse import quote", set()),
        ("from urllib import request", {"urllib.request"}),
        ("import importlib\nimportlib.import_module('socket')", {"socket"}),
        ("__import__('random')", {"random"}),
        ("import msgspec, orjson", set()),
    ],
)
def test_the_search_sees_an_impure_import_in_any_form(source: str, found: set[str]) -> None:
    assert impure(source) == found


def test_the_search_sees_a_clock() -> None:
    assert clocks("from datetime import datetime\nthen = datetime.now()") == {"now"}
    assert clocks("self.live.now = now") == set()


@pytest.mark.parametrize(
    ("room", "source", "found"),
    [
        ("adapters", "from master.protocol import Batch", {"master"}),
        ("adapters", "import collector.feed", {"collector"}),
        ("master", "from collector import feed", {"collector"}),
        ("master", "from adapters.events import Trade", set()),
        ("collector", "from master.protocol import Batch", set()),
        ("simulator", "from adapters.events import Trade", {"adapters"}),
        ("simulator", "from . import markets", set()),
    ],
)
def test_the_search_sees_an_import_the_wrong_way(room: str, source: str, found: set[str]) -> None:
    assert foreign(room, source) == found
