"""The page in a real browser: what it shows, how it is used, and what it does when the master does not answer."""

import os
import re
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser, ConsoleMessage, Page, Request, expect, sync_playwright

from tests.dashboard.stub import FEEDS, VENUES, Stub
from tests.waiting import PATIENCE, until_now

CHROMIUM = shutil.which("chromium")
pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="needs chromium (apt-get install chromium)")
expect.set_options(timeout=PATIENCE * 1000)

DESKTOP = {"width": 1440, "height": 900}
PHONE = {"width": 360, "height": 740}
Open = Callable[..., Page]


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield browser
        browser.close()


@pytest.fixture
def stub(port: int) -> Iterator[Stub]:
    stub = Stub(port)
    stub.start()
    yield stub
    stub.close()


@pytest.fixture
def complaints() -> list[str]:
    """What the browser complained of. A test that provokes some takes them out."""
    return []


@pytest.fixture
def opened(browser: Browser, stub: Stub, complaints: list[str]) -> Iterator[Open]:
    """Opens the page at this fragment; None: a tab where it is not opened yet."""
    contexts = []

    def heard(message: ConsoleMessage) -> None:
        if message.type in ("error", "warning"):
            complaints.append(message.text)

    def failed(request: Request) -> None:
        if request.failure != "net::ERR_ABORTED":  # which the page does itself when its question changes
            complaints.append(f"{request.url}: {request.failure}")

    def open_page(fragment: str | None = "", size: dict[str, int] = DESKTOP, scheme: str = "dark") -> Page:
        context = browser.new_context(viewport=size, color_scheme=scheme, reduced_motion="reduce")  # type: ignore[arg-type]
        contexts.append(context)
        page = context.new_page()
        page.on("console", heard)
        page.on("pageerror", lambda error: complaints.append(str(error)))
        page.on("requestfailed", failed)
        if fragment is not None:
            page.goto(f"{stub.url}/{fragment}")
        return page

    yield open_page
    for context in contexts:
        context.close()
    assert complaints == []


@pytest.fixture
def shots(tmp_path: Path) -> Path:
    folder = Path(os.environ.get("SCREENSHOTS", tmp_path))
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def rows(page: Page, table: str) -> list[list[str]]:
    texts: list[list[str]] = page.eval_on_selector_all(
        f"#{table}-table > tbody > tr:not(.detail)", "rows => rows.map(row => [...row.children].map(cell => cell.textContent))"
    )
    return texts


def ladder(page: Page) -> tuple[list[float], list[float]]:
    """The prices of asks and bids as they stand at one moment: the book moves on."""
    sides = page.evaluate(
        """() => ["asks", "bids"].map(side =>
            [...document.querySelectorAll(`#${side} td:first-child`)].map(cell => cell.textContent))"""
    )
    asks, bids = ([float(text) for text in texts if text] for texts in sides)
    return asks, bids


def is_drawn(page: Page, selector: str) -> bool:
    """Whether the canvas has more than one colour."""
    return bool(
        page.eval_on_selector(
            f"{selector} canvas",
            """canvas => new Set(new Uint32Array(
                canvas.getContext("2d").getImageData(0, 0, canvas.width, canvas.height).data.buffer)).size > 2""",
        )
    )


def wait_for_all(page: Page) -> None:
    expect(page.locator("#exchanges-table > tbody > tr")).to_have_count(len(VENUES))
    expect(page.locator("#board-table > tbody > tr:not(.detail)")).to_have_count(len(FEEDS))
    expect(page.locator("#plot-events-value")).to_contain_text("now")
    expect(page.locator("#candle")).to_contain_text("O 7")
    expect(page.locator("#ladder-state")).to_contain_text("live")
    expect(page.locator("#hours-summary")).to_contain_text("market hours are complete")
    expect(page.locator("#gaps-table > tbody > tr").nth(5)).to_be_visible()


def test_each_panel_shows_what_the_master_tells(opened: Open, stub: Stub, shots: Path) -> None:
    page = opened("#feed=BTC/USD&plot=kraken")
    wait_for_all(page)
    expect(page.locator("#state")).to_have_text("ok")
    states = {row[0]: row[1] for row in rows(page, "exchanges")}
    assert (states["kraken"], states["gateio"], states["coinbase"]) == ("ok", "quiet", "silent")
    expect(page.locator("#plot-of")).to_have_text("kraken")
    until_now(lambda: is_drawn(page, "#plot-events") and is_drawn(page, "#plot-lag") and is_drawn(page, "#candles"))

    expect(page.get_by_label("Sources used").locator("tbody tr")).to_have_count(6)
    expect(page.get_by_label("Sources refused").locator("tbody tr")).to_have_count(2)
    expect(page.get_by_label("Sources refused")).to_contain_text("outlier: 212.4 bps from the median")
    expect(page.locator(".summary")).to_contain_text("USDT as 0.9998400 USD (5 sources")

    asks, bids = ladder(page)
    assert len(asks) == len(bids) == 12
    amounts = page.locator("#bids td:nth-child(2)").all_inner_texts()
    assert {len(text.partition(".")[2]) for text in amounts} == {5}  # without the zeros that fill them up
    assert [*asks, *bids] == sorted([*asks, *bids], reverse=True)
    assert rows(page, "hours")[0][1].startswith("coinbase")  # the least complete first
    assert rows(page, "hours")[0][-1] == "97.38 %"
    assert [row[1] for row in rows(page, "gaps")[:2]] == ["all markets", "kraken ETH/USDT"]
    expect(page.locator("#tv-attr-logo")).to_be_visible()  # the licence asks for it
    page.screenshot(path=shots / "desktop-dark.png", full_page=True)

    before = page.locator("#stored").inner_text()
    expect(page.locator("#stored")).not_to_have_text(before)


def test_a_book_that_cannot_be_trusted_is_absent_and_says_why(opened: Open) -> None:
    page = opened("#symbol=BTC/USDT&exchange=kraken&interval=5m&book=htx")
    expect(page.locator("#ladder-state")).to_have_text("recovering")
    expect(page.locator("#ladder .note")).to_contain_text("Something of this book was missed")
    assert ladder(page) == ([], [])
    chosen = [page.locator(f"#{name}").input_value() for name in ("symbol", "exchange", "interval", "book")]
    assert chosen == ["BTC/USDT", "kraken", "5m", "htx"]

    page.select_option("#book", "okx")
    expect(page.locator("#ladder-state")).to_contain_text("live")
    expect(page.locator("#ladder .note")).to_be_hidden()
    assert len(ladder(page)[1]) == 12
    assert "book=okx" in page.url
    page.select_option("#symbol", "PEPE/USDT")
    expect(page.locator("#candle")).to_contain_text("C 0.00001")
    expect(page.locator("#book")).to_have_value("okx")  # the first that has one


def test_all_of_it_is_used_by_keyboard(opened: Open) -> None:
    page = opened()
    wait_for_all(page)
    page.keyboard.press("/")
    expect(page.locator("#board-filter")).to_be_focused()
    page.keyboard.type("us fl")
    expect(page.locator("#board-table > tbody > tr")).to_have_count(1)
    assert "prices=us" in page.url
    page.keyboard.press("Escape")
    expect(page.locator("#board-table > tbody > tr")).to_have_count(len(FEEDS))

    page.keyboard.press("Tab")
    expect(page.get_by_role("region", name="Table of prices")).to_be_focused()
    page.keyboard.press("Tab")
    feed = page.get_by_role("region", name="Table of prices").get_by_role("button")
    expect(feed.nth(FEEDS.index("FLR"))).to_be_focused()  # where the table was left
    page.keyboard.press("Home")
    expect(feed.first).to_be_focused()
    page.keyboard.press("ArrowDown")
    page.keyboard.press("ArrowDown")
    page.keyboard.press("ArrowUp")
    expect(feed.nth(1)).to_be_focused()
    assert feed.nth(1).evaluate("node => getComputedStyle(node).outlineStyle") == "solid"
    page.keyboard.press("Enter")
    expect(feed.nth(1)).to_have_attribute("aria-expanded", "true")
    expect(page.get_by_label("Sources used")).to_contain_text("ETH/USDT")
    assert "feed=ETH/USD" in page.url
    before = page.locator("#stored").inner_text()
    expect(page.locator("#stored")).not_to_have_text(before)
    expect(feed.nth(1)).to_be_focused()  # what is told anew takes the focus from nobody
    page.keyboard.press("End")
    page.keyboard.press("Enter")
    expect(page.locator(".summary")).to_contain_text("No price: 2 sources can be used, 3 are needed.")
    expect(feed.last).to_be_focused()
    assert rows(page, "board")[-1][:2] == ["NIGHT/USD", "–"]
    page.keyboard.press("Home")
    page.keyboard.press("Tab")
    expect(page.locator("#symbol")).to_be_focused()  # a table is one stop


CONTRAST = """selectors => selectors.map(selector => {
  const numbers = colour => colour.match(/[\\d.]+/g).map(Number);
  const light = colour => numbers(colour).slice(0, 3).map(v => v / 255)
    .map(v => v <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4)
    .reduce((sum, v, i) => sum + v * [0.2126, 0.7152, 0.0722][i], 0);
  const node = document.querySelector(selector);
  let ground = node;
  while ((numbers(getComputedStyle(ground).backgroundColor)[3] ?? 1) < 1) ground = ground.parentElement;
  const [a, b] = [getComputedStyle(node).color, getComputedStyle(ground).backgroundColor].map(light);
  return (Math.max(a, b) + 0.05) / (Math.min(a, b) + 0.05);
})"""
READ = [
    "h1",
    "h2",
    "dt",
    "thead th",
    "#exchanges-table td",
    '[data-state="quiet"]',
    '[data-state="silent"]',
    "#asks td",
    "#bids td",
]
READ += ["#candle", "#theme", "output", "#hours-summary", "label", "select", 'td[data-state="warn"]', 'td[data-state="bad"]']


def test_light_and_dark_are_chosen_kept_and_readable(opened: Open, shots: Path) -> None:
    page = opened(scheme="light")
    wait_for_all(page)
    ground = "getComputedStyle(document.body).backgroundColor"
    light = page.evaluate(ground)
    assert min(page.evaluate(CONTRAST, READ)) >= 4.5
    until_now(lambda: is_drawn(page, "#plot-events") and is_drawn(page, "#candles"))
    page.screenshot(path=shots / "desktop-light.png", full_page=True)

    page.get_by_role("button", name="Theme: auto").click()
    assert page.evaluate(ground) != light
    assert min(page.evaluate(CONTRAST, READ)) >= 4.5
    page.reload()
    expect(page.get_by_role("button", name="Theme: dark")).to_be_visible()
    assert page.evaluate(ground) != light
    page.get_by_role("button", name="Theme: dark").click()
    assert page.evaluate(ground) == light
    page.emulate_media(color_scheme="dark")
    assert page.evaluate(ground) == light  # chosen, whatever the system says


def test_a_key_is_asked_for_kept_by_the_tab_and_sent(opened: Open, stub: Stub, complaints: list[str], shots: Path) -> None:
    stub.key = "right"
    page = opened()
    field = page.get_by_label("Key of a consumer")
    expect(field).to_be_focused()
    expect(page.get_by_role("alert")).to_have_count(0)  # a master that asks is there
    page.screenshot(path=shots / "key.png")
    field.fill("wrong")
    page.keyboard.press("Enter")
    expect(page.get_by_text("The key that was given is not accepted.")).to_be_visible()
    field.fill("right")
    page.keyboard.press("Enter")
    wait_for_all(page)
    expect(page.locator("dialog")).to_be_hidden()
    assert not any("right" in each for each in stub.asked)  # never in an address
    assert all("401" in each for each in complaints)
    complaints.clear()
    page.reload()
    wait_for_all(page)
    assert page.evaluate("[localStorage.length, document.cookie]") == [0, ""]


def test_an_outage_is_told_and_what_is_old_is_marked_until_it_ends(
    opened: Open, stub: Stub, complaints: list[str], shots: Path
) -> None:
    page = opened()
    wait_for_all(page)
    stub.stop()
    expect(page.get_by_role("alert")).to_contain_text("Cannot reach the master")
    expect(page.get_by_role("alert")).to_contain_text(re.compile(r"What is shown is from \d\d:\d\d:\d\d UTC"))
    expect(page.locator("#state")).to_have_text("unknown")
    expect(page.locator("#ladder-state")).to_have_text("absent")
    assert ladder(page) == ([], [])  # an old book is no book
    expect(page.locator("#exchanges[data-stale]")).to_be_visible()
    expect(page.locator("#board[data-stale]")).to_be_visible()
    page.screenshot(path=shots / "outage.png")
    stub.start()
    expect(page.get_by_role("alert")).to_have_count(0)
    expect(page.locator("[data-stale]")).to_have_count(0)
    wait_for_all(page)
    complaints.clear()  # of each connection that was refused


def test_nothing_is_asked_while_nobody_looks(opened: Open, stub: Stub) -> None:
    page = opened(None)
    page.clock.install()
    page.goto(stub.url)
    page.clock.run_for(2000)
    until_now(lambda: any(asked.startswith("/v1/market/book") for asked in stub.asked))
    hide = "hidden => { Object.defineProperty(document, 'hidden', {value: hidden, configurable: true});"
    hide += " document.dispatchEvent(new Event('visibilitychange')); }"
    page.evaluate(hide, True)
    page.wait_for_load_state("networkidle")
    page.clock.run_for(30_000)
    asked = len(stub.asked)
    page.clock.run_for(30_000)
    assert len(stub.asked) == asked
    page.evaluate(hide, False)
    until_now(lambda: len(stub.asked) > asked)


def test_a_phone_shows_all_of_it_without_scrolling_sideways(opened: Open, shots: Path) -> None:
    page = opened("#feed=BTC/USD", size=PHONE)
    wait_for_all(page)
    expect(page.get_by_label("Sources refused").locator("tbody tr")).to_have_count(2)
    wide = """() => [document.documentElement, ...document.querySelectorAll(".scroll")]
        .filter(node => node.scrollWidth > node.clientWidth).map(node => node.getAttribute("aria-label") ?? node.tagName)"""
    until_now(lambda: is_drawn(page, "#plot-events") and is_drawn(page, "#candles"))
    page.screenshot(path=shots / "phone-dark.png", full_page=True)
    assert page.evaluate(wide) == []
    page.emulate_media(color_scheme="light")
    page.screenshot(path=shots / "phone-light.png", full_page=True)


def test_what_a_venue_names_never_becomes_markup(opened: Open, stub: Stub) -> None:
    page = opened(None)
    name = "<img src=x onerror=document.title='owned'>"
    row = {"exchange": name, "symbol": name, "channel": "trades", "reason": name, "received": 1, "position": 1}
    page.route("**/v1/gaps?*", lambda route: route.fulfill(json={"rows": [row], "cursor": None}))
    page.goto(f"{stub.url}/#plot={name}&prices={name}")
    expect(page.locator("#gaps-table tbody tr")).to_contain_text([name])
    expect(page.locator("#plot-of")).to_have_text(name)
    expect(page.locator("#board-filter")).to_have_value(name)
    assert page.locator("img").count() == 0
