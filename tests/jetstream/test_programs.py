"""The programs as users start them: simulator, collector and master in processes of their own, with NATS between them."""

import json
import signal
from contextlib import AsyncExitStack
from pathlib import Path

from tests.e2e.programs import Stage
from tests.jetstream.nats import Server, needs_server
from tests.waiting import until

pytestmark = needs_server

PAIRS = {"binance": {"trades": ["BTC/USDT", "ETH/USDT"], "orderbooks": ["BTC/USDT"]}}
NOWHERE = 9


async def test_a_collector_hands_over_by_nats_alone(tmp_path: Path, nats: Server) -> None:
    """Through a kill of the server, which the collector's health tells, and a rolling restart of the collector."""
    async with AsyncExitStack() as stack:
        on = Stage(tmp_path, stack, COLLECTOR_JETSTREAM__SERVERS=json.dumps([nats.url]))
        _, venue = await on.simulator("--rate", "100", "--exchange", "binance")
        master, _ = await on.master()
        collector, monitor = await on.collector(on.config(PAIRS), venue, NOWHERE)
        await on.until_health(monitor, lambda health: health["acked"] > 50, "events are acknowledged")
        nats.kill()
        down = await on.until_health(monitor, lambda health: health["waiting"] > 20, "events wait")
        assert down["workers"][0]["spool_trouble"].startswith(nats.url)
        assert down["losses"] == {}
        nats.start()
        await on.until_health(monitor, lambda health: health["status"] == "ok" and health["waiting"] < 20, "it goes on")
        collector.process.send_signal(signal.SIGUSR2)
        await until(lambda: collector.logged("worker replaced"), "a new process takes the place of the old one")
        before = (await on.get(f"{monitor}/health"))["acked"]
        await on.until_health(monitor, lambda health: health["acked"] > before + 50, "it goes on")
        code, output = await collector.end()
        assert code == 0
        await until(lambda: on.count() >= json.loads(output.splitlines()[-1])["acked"], "all that was acknowledged is stored")
        assert (await master.end())[0] == 0
        assert on.count("gaps") == 0
        trades = on.rows("SELECT count(*), count(DISTINCT (symbol, id)), count(DISTINCT symbol) FROM trades")
        assert trades[0][0] == trades[0][1]
        assert trades[0][2] == 2
