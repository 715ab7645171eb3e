"""`python -m simulator`, as a user starts it."""

import asyncio
import contextlib
import json
import signal
import socket
import sys
from collections.abc import AsyncIterator

import aiohttp
import pytest

from simulator.__main__ import arguments
from simulator.registry import VENUES


@contextlib.asynccontextmanager
async def started(*arguments: str) -> AsyncIterator[asyncio.subprocess.Process]:
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        "simulator",
        *arguments,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    try:
        yield process
    finally:
        if process.returncode is None:
            process.kill()
        await process.wait()


async def result(process: asyncio.subprocess.Process) -> tuple[int, str, str]:
    async with asyncio.timeout(10):
        out, err = await process.communicate()
    assert process.returncode is not None
    return process.returncode, out.decode(), err.decode()


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
async def test_it_says_where_it_listens_and_ends_cleanly(number: signal.Signals) -> None:
    async with started("--port", "0", "--seed", "7", "--exchange", "binance", "--exchange", "okx", "--rate", "500") as process:
        assert process.stdout
        async with asyncio.timeout(10):
            ready = json.loads(await process.stdout.readline())
        assert (ready["exchanges"], ready["seed"]) == (["binance", "okx"], 7)
        async with aiohttp.ClientSession() as session:
            url = ready["url"].replace("http", "ws") + "/stream.binance.com/ws/btcusdt@trade"
            async with session.ws_connect(url) as websocket:
                assert (await websocket.receive_json())["e"] == "trade"
                process.send_signal(number)
                assert await result(process) == (0, "", "")


@pytest.mark.parametrize(
    ("given", "word"),
    [
        (["--exchange", "ftx"], "'ftx'"),
        (["--fault", "binance:explode"], "stale_snapshot"),
        (["--exchange", "kraken", "--fault", "binance:gap"], "running are kraken"),
        (["--port", "70000"], "65535"),
        (["--port", "x"], "65535"),
        (["--rate", "0"], "above 0"),
        (["--rate", "x"], "above 0"),
        (["--seed", "x"], "seed"),
        (["--nonsense"], "nonsense"),
    ],
)
def test_bad_arguments_are_one_line_and_code_2(given: list[str], word: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as end:
        arguments(given)
    out, err = capsys.readouterr()
    assert (end.value.code, out, len(err.splitlines())) == (2, "", 1)
    assert word in err


async def test_a_fault_that_a_venue_cannot_have_is_one_line_and_code_2() -> None:
    async with started("--port", "0", "--fault", "binance:bad_checksum") as process:
        code, out, err = await result(process)
        assert (code, out, len(err.splitlines())) == (2, "", 1)
        assert "binance has no checksum" in err


def test_the_defaults_are_all_exchanges_at_a_calm_rate() -> None:
    options = arguments([])
    assert (options.exchange, options.rate, options.seed, options.fault) == (list(VENUES), 200.0, 1, [])


async def test_a_port_in_use_says_what_to_do() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = str(taken.getsockname()[1])
        async with started("--port", port, "--exchange", "binance") as process:
            code, out, err = await result(process)
            assert (code, out, len(err.splitlines())) == (2, "", 1)
            assert f"port {port} on 127.0.0.1 is in use" in err
            assert "--port" in err
