"""examples/stream.html in a real browser, against a running master."""

import os
import shutil
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from aiohttp import web
from playwright.async_api import Page, async_playwright, expect

from master import keys
from master.auth import join_key
from tests.master.making import STREAM, batch
from tests.master.running import collector, running
from tests.waiting import PATIENCE

CHROMIUM = shutil.which("chromium")
EXAMPLES = Path(__file__).parents[2] / "examples"
pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="needs chromium (apt-get install chromium)")


@asynccontextmanager
async def opened() -> AsyncIterator[Page]:
    """The example, served as any files are."""
    app = web.Application()
    app.router.add_static("/", EXAMPLES)
    runner = web.AppRunner(app, shutdown_timeout=0.1)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    try:
        async with async_playwright() as playwright:
            browser = await playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
            page = await browser.new_page()
            await page.goto(f"http://localhost:{runner.addresses[0][1]}/stream.html")
            yield page
            await browser.close()
    finally:
        await runner.cleanup()


async def test_trades_appear_and_what_is_wrong_is_said(tmp_path: Path) -> None:
    made = keys.make(keys.file_in(tmp_path), "consumer", "", None)
    async with running(tmp_path) as master, collector(master, STREAM) as source, opened() as page:
        complaints: list[str] = []
        page.on("pageerror", lambda error: complaints.append(str(error)))
        page.on("console", lambda message: complaints.append(message.text) if message.type == "error" else None)
        expect.set_options(timeout=PATIENCE * 1000)
        status, shown = page.get_by_role("status"), page.locator("pre")
        await page.get_by_label("Master").fill(master.url)
        await page.get_by_label("Key").fill("wrong")
        await page.get_by_label("Topics").fill("trades:kraken:BTC/USD books:kraken:BTC/USD")
        await page.get_by_role("button").click()
        await expect(status).to_contain_text("the key has to be one of role consumer or admin")

        await page.get_by_label("Key").fill(join_key(made.id, made.key))
        await page.get_by_role("button").click()
        await expect(shown).to_contain_text('"op":"subscribed"')
        for seq in (1, 2):
            await source.send(batch(seq))
        await expect(shown).to_contain_text('"price":"102.50"')
        lines = (await shown.inner_text()).split("\n")
        assert [line for line in lines if '"type":"trade"' in line][1].count('"id":"1"') == 1, "the newest stands first"
        await expect(status).to_contain_text("at ")
        await page.screenshot(path=Path(os.environ.get("SCREENSHOTS", tmp_path)) / "stream.png")
        assert complaints == []
