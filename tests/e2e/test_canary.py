"""A key, right or wrong, is nowhere but where it was put: not in logs, arguments, data, metrics, answers or tracebacks."""

import asyncio
from pathlib import Path
from typing import Any

import aiohttp
from websockets.asyncio.client import connect
from websockets.exceptions import ConnectionClosed, InvalidStatus

from master import keys
from master.auth import Opening, encode_opening, join_key, new_nonce
from tests.e2e.programs import KEY, Program, Stage, command_lines, stage
from tests.waiting import PATIENCE, until

WRONG = "canary-wrong-8d1e"
PAIRS = {"binance": {"trades": ["BTC/USDT"], "orderbooks": ["BTC/USDT"], "tickers": ["BTC/USDT"]}}


async def knock(url: str, *frames: str | bytes) -> list[str]:
    """Everything that a stranger hears who says this, and comes again where there is a pause."""
    heard: list[str] = []
    try:
        async with asyncio.timeout(PATIENCE), connect(url, proxy=None, compression=None) as socket:
            for frame in frames:
                await socket.send(frame)
            while True:
                heard.append(str(await socket.recv()))
    except ConnectionClosed as closed:
        heard.append(str(closed))
    except InvalidStatus as answer:
        heard.append(f"{answer.response.headers} {answer.response.body!r}")
        await asyncio.sleep(float(answer.response.headers["Retry-After"]))
        heard += await knock(url, *frames)
    return heard


async def everything_said_to_strangers(url: str, secrets: list[str]) -> str:
    opening = encode_opening(Opening("collector", id="x", nonce=new_nonce()))
    heard: list[str] = []
    for secret in secrets:
        for frames in (
            (f"key={secret}&role=admin",),
            (f"key={secret}&role=collector&x=%0A",),
            (f"v=2&key={secret}&role=collector",),
            (f"v=1&role=collector&id={secret}&nonce=1&kid={secret}", '{"op":"login","proof":"' + secret + '"}'),
            (opening, f"key={secret}&role=collector"),
            (opening, '{"op":"login","proof":["' + secret + '"]}'),
            (secret.encode(),),
            (secret * 5000,),
        ):
            heard += await knock(url, *frames)
    return "\n".join(heard)


async def old_collector(url: str, key: str) -> None:
    """One that is let in, sends its login twice, then something that is none, and ends."""
    async with connect(url, proxy=None, compression=None) as socket:
        for frame in (f"key={key}&role=collector", f"key={key}&role=collector", '{"type":"' + key[:4] + '"}'):
            await socket.send(frame)


async def pages(*urls: str) -> str:
    async with aiohttp.ClientSession() as session:
        answers = []
        for url in urls:
            async with session.get(url) as answer:
                answers.append(await answer.text())
    return "\n".join(answers)


def files_with(folder: Path, secret: str) -> list[str]:
    names = [each for each in folder.rglob("*") if each.is_file()]
    return [str(each.relative_to(folder)) for each in names if secret.encode() in each.read_bytes()]


async def test_a_key_is_seen_nowhere(tmp_path: Path) -> None:
    async with stage(tmp_path) as on:
        made = keys.make(keys.file_in(on.data), "collector")
        secrets = [KEY, made.key, WRONG]
        master, right, wrong, ports = await programs(on, join_key(made.id, made.key))
        url, http = f"ws://127.0.0.1:{ports['port']}", f"http://127.0.0.1:{ports['http_port']}"
        await on.until_health(http, lambda health: health["stored"] > 50, "events are stored")
        for key in (KEY, join_key(made.id, made.key)):
            await old_collector(url, key)
        await until(lambda: wrong.logged("no master"), "the wrong key is refused")
        lines = [line for program in (master, right, wrong) for line in command_lines(program.pid).values()]
        assert len(lines) >= 5, "three programs and their workers"
        heard = await everything_said_to_strangers(url, secrets)
        monitor = right.logged("collecting")[0]["monitor"]
        heard += await pages(*(f"{at}/{page}" for at in (http, monitor) for page in ("health", "metrics", "nothing")))
        said = [(await each.end())[1] for each in (right, wrong, master)]
        for hidden in secrets:
            assert not any(hidden.encode() in line for line in lines), "arguments"
            assert hidden not in heard, "answers"
            assert not any(hidden in output for output in said), "standard output"
            assert set(files_with(tmp_path, hidden)) <= {"data/keys.json"}, "logs and everything that was stored"
        assert files_with(tmp_path, made.key) == ["data/keys.json"], "where it would have been found"
        assert "Traceback" not in "".join(each.log.read_text() for each in (master, right, wrong))
        assert master.logged("login refused"), "or nothing was tried"


async def programs(on: Stage, key: str) -> tuple[Program, Program, Program, dict[str, int]]:
    """A master, a collector with this key and one with a wrong one (which has nothing to send), both logging all they can."""
    _, simulator = await on.simulator("--exchange", "binance", "--rate", "300")
    master, ports = await on.master()
    config = on.config(PAIRS, debug={"log": True})
    settings: dict[str, Any] = {
        "COLLECTOR_MASTER__URL": f"ws://127.0.0.1:{ports['port']}",
        "COLLECTOR_MONITOR__PORT": 0,
    }
    right, wrong = [
        await on.start(
            *("collector", "--config", config, "--simulator", address),
            **(settings | {"COLLECTOR_MASTER__KEY": each, "COLLECTOR_NAME": name}),
        )
        for name, each, address in (("right", key, simulator), ("wrong", WRONG, "http://127.0.0.1:9"))
    ]
    await until(lambda: right.logged("collecting") and wrong.logged("collecting"), "both collectors are up")
    return master, right, wrong, ports
