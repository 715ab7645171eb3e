"""docs/exchanges.md: what is known of every venue, made from the facts that its adapter obeys.

usage: scripts/exchanges.py > docs/exchanges.md
"""

import sys
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from adapters import registry  # noqa: E402 (the project is run from its folder, not installed)
from adapters.venue import Rate, Venue  # noqa: E402

CAPTURES = ROOT.parent / "shared" / "captures"

_HEAD = """\
# Exchanges

Made by `scripts/exchanges.py` from the facts that the adapters obey; do not edit. Every exchange
gives trades, order books (views and changes) and tickers of its spot markets. "Proven by" says what shows a loss in a book: the
venue's sequence, its checksum, or nothing but the order of one connection. REST weight is what we allow ourselves an address,
frames what we send on one connection; both stay inside what the venue allows.
"""
_COLUMNS = (
    "exchange",
    "book from",
    "proven by",
    "depths",
    "pairs on a connection",
    "frames",
    "REST weight",
    "session",
    "past trades over REST",
)


def markdown(captures: Path | None = None) -> str:
    """The whole page. `captures`: a folder of recorded traffic, a folder an exchange, whose files are named as evidence."""
    venues = [registry.adapter(name).venue for name in registry.NAMES]
    table = [_COLUMNS, tuple("---" for _ in _COLUMNS), *map(_row, venues)]
    lines = [_HEAD, *(f"| {' | '.join(row)} |" for row in table), ""]
    for venue in venues:
        lines += _section(venue, captures)
    return "\n".join(lines)


def _row(venue: Venue) -> tuple[str, ...]:
    limits = venue.limits
    most = ", ".join(f"{count} {channel}" for channel, count in venue.per_connection.items())
    return (
        f"[{venue.name}](#{venue.name})",
        "a request" if venue.book.source == "rest" else "the subscription",
        _proof(venue),
        ", ".join(map(str, venue.depths)),
        most,
        _rate(limits.frames) + (f", {_rate(limits.requests)}" if limits.requests else ""),
        _rate(limits.weight),
        "" if venue.lifetime is None else f"{venue.lifetime / 3600:g} h",
        venue.past_trades,
    )


def _proof(venue: Venue) -> str:
    proofs = ["sequence"] if venue.book.chain in ("range", "previous") else []
    if venue.book.checksum is not None:
        proofs.append("checksum")
    if venue.numbers_messages:
        proofs.append("numbers of a connection's messages")
    return " and ".join(proofs) or "order of arrival"


def _rate(rate: Rate) -> str:
    return f"{rate.count:g} in {rate.seconds:g} s"


def _section(venue: Venue, captures: Path | None) -> Iterator[str]:
    yield f"## {venue.name}"
    yield ""
    yield f"`{venue.websocket}`, `{venue.rest}`"
    yield ""
    yield from (f"- {sentence}" for sentence in venue.evidence)
    yield "- Sources: " + ", ".join(f"<{address}>" for address in venue.documentation)
    if captures is not None:
        files = sorted(path.stem for path in (captures / venue.name).glob("*.ndjson"))
        yield "- Recorded traffic it was proven on: " + (", ".join(f"`{name}`" for name in files) or "none")
    yield ""


if __name__ == "__main__":
    print(markdown(CAPTURES if CAPTURES.is_dir() else None))
