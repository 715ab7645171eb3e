"""The lines of one channel of an exchange: connections that may bring the same markets, so that one can end without a hole.

One line alone puts its events out itself. Beside another of the same market, each trade goes out once, whichever brings it
first; a book or ticker comes from the line in charge of it, and the charge passes at once when that line is lost or in doubt. A
hole is told where no line can vouch that it heard everything, and only then.
"""

from collections import Counter
from collections.abc import Callable, Iterable
from functools import partial
from time import monotonic, time_ns

from msgspec.structs import replace

from adapters.backfill import LastTrade
from adapters.book_sync import BookSync
from adapters.events import Book, BookDelta, Event, Gap, Status, Trade
from adapters.subscriptions import Subscription
from collector.feed import Feed
from collector.line import Line, Market
from collector.sink import Put
from collector.told import Missing, NamedTrades, NumberedTrades, Span, Witness, both, outside

STALLED_AFTER = 3_000_000
"""Microseconds for which another line brought data of a market and the one in charge did not: it stands still."""
LINGER = 5.0
"""Seconds for which a line that is alone again is still compared with the one that left."""
CLOCKS = 10_000_000
"""Microseconds by which a venue's times may lie before ours."""


class Lines:
    """All lines of one channel. `put` and `status` are the ways out."""

    def __init__(self, put: Put, status: Callable[[Status], None]) -> None:
        self._put = put
        self._status = status
        self._lines: list[Line] = []
        self._markets: dict[str, Market] = {}
        self._left: Counter[str] = Counter()
        self._withheld: Counter[str] = Counter()

    # Coming and going -----------------------------------------------------------------------------------------------

    def join(self, feed: Feed) -> None:
        """One more connection, before it begins."""
        line = Line(feed)
        others = [each for each in self._lines if not each.subscriptions.keys().isdisjoint(line.subscriptions)]
        self._lines.append(line)
        if others:
            for each in (*others, line):
                self._compare(each)

    def _compare(self, line: Line) -> None:
        """From now on it is compared with others. What went out so far of a market that no other has came from it."""
        if line.is_compared:
            return
        now = _now()
        line.is_compared = True
        line.adapter.live.fills_holes = False
        line.feed.put, line.feed.status = partial(self._take, line), partial(self._hear, line)
        for symbol, subscription in line.subscriptions.items():
            if symbol not in self._markets:
                self._markets[symbol] = Market(subscription, line)
                line.witness(symbol, now)
            market = self._markets[symbol]
            market.lines.append(line)
            if market.shown is not None and not line.adapter.live.tells_changes:
                market.shown = None  # who followed changes will hear views
            if isinstance(market.trades, NumberedTrades):
                market.trades.joined(line, subscription.upcoming)

    def put_to(self, put: Put) -> None:
        """Another way out."""
        before, self._put = self._put, put
        for feed in self.feeds:
            if feed.put is before:
                feed.put = put

    def can_leave(self, feeds: Iterable[Feed]) -> bool:
        """Whether what these bring comes from others as well, of all that is still wanted of it."""
        leaving = [line for line in self._lines if line.feed in feeds]
        return all(self._is_covered(market, leaving) for line in leaving for market in self._markets_of(line))

    @staticmethod
    def _is_covered(market: Market, leaving: list[Line]) -> bool:
        others = [line for line in market.lines if line not in leaving]
        is_whole = any(line.is_whole(market.symbol) for line in market.lines if line in leaving)
        return not others or not is_whole or any(line.is_whole(market.symbol) for line in others)

    def leave(self, feed: Feed) -> None:
        """A connection is about to be ended: what it is in charge of passes on."""
        now = _now()
        line = next(each for each in self._lines if each.feed is feed)
        markets = self._markets_of(line)
        for market in markets:
            for other in market.lines:
                other.witness(market.symbol, now)
        self._lines.remove(line)
        line.leave(now)
        self._left += line.adapter.totals()
        for market in markets:
            self._let_go(market, line)

    def _let_go(self, market: Market, line: Line) -> None:
        """A market without this line, which may have been the only one: then it is not wanted any more."""
        market.lines.remove(line)
        market.earlier.append(line)
        if market.charge is line and not self._pass_on(market, line) and market.lines:
            market.charge = market.lines[0]
        for other in market.lines:
            other.alone_since = monotonic()
            if other.witnesses[market.symbol].since is None:
                self._leave_hole(line.subscriptions[market.symbol], line.witnesses[market.symbol], other)
        self._settle(market)
        if isinstance(market.trades, NumberedTrades):
            market.trades.left(line)
        if not market.lines:
            del self._markets[market.symbol]

    @staticmethod
    def _leave_hole(left: Subscription, witness: Witness, other: Line) -> None:
        """What lies between the end of a line and the beginning of its successor is told by that one, when it begins."""
        subscription = other.subscriptions[left.symbol]
        if subscription.hole is None:
            subscription.hole, subscription.hole_reason = left.hole or witness.lost, left.hole_reason

    def look(self) -> None:
        """Time passes: who stands still, what has waited long enough, and whether there is nothing to compare any more."""
        now = _now()
        for market in self._markets.values():
            for line in market.lines:
                line.witness(market.symbol, now)
            if not market.charge.is_whole(market.symbol) or self._is_stalled(market):
                self._pass_on(market, market.charge)
            self._settle(market)
        for line in self._lines:
            if line.is_compared and monotonic() - line.alone_since >= LINGER:
                self._be_alone(line)

    def _is_stalled(self, market: Market) -> bool:
        newest = max(line.heard(market.symbol) for line in market.lines)
        return newest - market.charge.heard(market.symbol) > STALLED_AFTER

    def _be_alone(self, line: Line) -> None:
        """It puts its events out itself again, if there is nothing to compare them with."""
        markets = self._markets_of(line)
        is_waiting = any(isinstance(each.trades, NumberedTrades) and each.trades.is_waiting for each in markets)
        if is_waiting or any(len(market.lines) > 1 for market in markets):
            return
        for market in markets:
            del self._markets[market.symbol]
        line.is_compared = False
        line.adapter.live.fills_holes = True
        line.feed.put, line.feed.status = self._put, self._status

    def _markets_of(self, line: Line) -> list[Market]:
        return [self._markets[symbol] for symbol in line.subscriptions] if line.is_compared else []

    # What is known of them ------------------------------------------------------------------------------------------

    @property
    def feeds(self) -> list[Feed]:
        return [line.feed for line in self._lines]

    def _in_charge(self) -> dict[str, Line]:
        """Of each market, the line from which it comes."""
        charges = {symbol: line for line in self._lines for symbol in line.subscriptions}
        charges.update((symbol, market.charge) for symbol, market in self._markets.items())
        return charges

    @property
    def subscriptions(self) -> list[Subscription]:
        """As the lines in charge have them."""
        return [line.subscriptions[symbol] for symbol, line in self._in_charge().items()]

    @property
    def books(self) -> list[BookSync]:
        """As the lines in charge have them."""
        return [line.books[symbol] for symbol, line in self._in_charge().items() if symbol in line.books]

    def republish(self, symbol: str) -> None:
        """Put a whole book of this symbol, if it is one of these."""
        line = self._in_charge().get(symbol)
        if line is not None:
            line.feed.do(line.adapter.republish(symbol))

    @property
    def totals(self) -> Counter[str]:
        """What went out: what all lines said, less what another had said before."""
        totals = Counter(self._left)
        for line in self._lines:
            totals.update(line.adapter.totals())
        totals.subtract(self._withheld)
        return totals

    # What a line says -----------------------------------------------------------------------------------------------

    def _take(self, line: Line, event: Event) -> None:
        if isinstance(event, Gap):
            self._take_gap(line, event)
            return
        market = self._markets[event.symbol or ""]
        if market.symbol in line.unheard:
            line.witness(market.symbol, event.received)
        if isinstance(event, Trade):
            self._take_trade(line, market, event)
        elif isinstance(event, Book | BookDelta):
            self._take_book(line, market, event)
        else:
            if market.charge is not line and not market.charge.is_whole(market.symbol):
                market.charge = line
            self._put_if(market.charge is line, market.channel, event)

    def _put_if(self, is_news: bool, kind: str, event: Event) -> None:
        if is_news:
            self._put(event)
        else:
            self._withheld[kind] += 1

    def _take_trade(self, line: Line, market: Market, trade: Trade) -> None:
        trades, is_past = market.trades, trade.source == "backfill"
        if isinstance(trades, NumberedTrades):
            is_news = trades.trade(line, trade, monotonic())
        else:
            is_known = is_past and any(other.adapter.has_told(trade) for other in market.lines if other is not line)
            is_news = trades.is_new(trade) and not is_known
        self._put_if(is_news, "trades", trade)
        self._withheld["backfilled"] += is_past and not is_news
        self._settle(market)

    def _settle(self, market: Market) -> None:
        """Put out what need not wait any longer for another line."""
        trades = market.trades
        if isinstance(trades, NumberedTrades) and trades.is_waiting:
            able = [line for line in market.lines if line.may_bring(market.symbol)]
            self._put_settled(market, trades.settled(able, monotonic()))

    def _put_settled(self, market: Market, settled: Iterable[Trade | Missing]) -> None:
        for each in settled:
            if isinstance(each, Missing):
                before = each.after or (each.gap.since or each.gap.received) - CLOCKS
                self._tell(market, each.gap, LastTrade("", before, before), None)
            else:
                self._withheld["trades"] -= 1
                self._put(each)

    def _take_book(self, line: Line, market: Market, event: Book | BookDelta) -> None:
        """Of the line in charge; where readers follow changes, they are led from the book of one line to that of another."""
        shown, out, is_news = market.shown, event, market.charge is line
        if is_news and shown is not None:
            if market.shown_by is line:
                shown.follow(event)
            elif isinstance(event, Book):
                out, market.shown_by = shown.turned_into(event), line
                turned = isinstance(out, BookDelta)
                self._withheld["orderbooks"] += turned
                self._withheld["deltas"] -= turned
            else:
                is_news = False  # a change of a book that readers do not have
        self._put_if(is_news, "orderbooks" if isinstance(event, Book) else "deltas", out)

    def _hear(self, line: Line, status: Status) -> None:
        """The state of what another line is in charge of is no news."""
        if status.scope == "connection" and status.state == "lost":
            self._lost(line)
        market = self._markets.get(status.symbol or "")
        is_synced = market is not None and status.scope == "book" and status.state == "synced"
        if market is not None and is_synced and not market.charge.is_whole(market.symbol):
            market.charge = line  # whose whole book comes next
        if line is (market or self._markets_of(line)[0]).charge:
            self._status(status)

    def _lost(self, line: Line) -> None:
        now = _now()
        for market in self._markets_of(line):
            witness = line.witness(market.symbol, now)
            if market.charge is line:
                self._pass_on(market, line)
            if witness.lost is not None and not market.is_counted:
                about = (line.adapter.venue.name, market.symbol, None, now, market.channel, "disconnected", None, None)
                closed = [span for span in self._unheard(market, [(witness.lost, now)], now) if span[1] < now]
                self._tell_spans(line, market, Gap(*about, witness.lost, now), closed)
            self._settle(market)

    def _pass_on(self, market: Market, line: Line) -> bool:
        """Let another line be in charge of a market, if one has all of it: the one that heard of it last."""
        others = [each for each in market.lines if each is not line and each.is_whole(market.symbol)]
        if not others:
            return False
        market.charge = max(others, key=lambda each: each.heard(market.symbol))
        market.charge.feed.do(market.charge.adapter.republish(market.symbol))
        return True

    # Holes ----------------------------------------------------------------------------------------------------------

    def _take_gap(self, line: Line, gap: Gap) -> None:
        if gap.reason == "backfilled":
            self._put(gap)
            return
        self._withheld["gaps"] += 1
        if gap.symbol is None:
            for market in self._markets_of(line):
                self._take_span(line, market, replace(gap, symbol=market.symbol))
            return
        market = self._markets[gap.symbol]
        trades = market.trades
        if market.channel != "trades" or isinstance(trades, NamedTrades):
            self._take_span(line, market, gap)
        elif gap.reason == "renumbered":
            rest = trades.renumbered(line)
            if rest is not None:
                self._put_settled(market, rest)
                self._tell(market, gap, None, None)
        elif gap.first_missing is not None:
            trades.gap(gap)
            self._settle(market)
        elif gap.until is None or not trades.has_begun:
            self._take_span(line, market, gap)

    def _take_span(self, line: Line, market: Market, gap: Gap) -> None:
        """A hole by time: told as far as no other line was there."""
        now = _now()
        until = gap.until or gap.received
        since = min(gap.since or until, until - 1)
        line.witnesses[market.symbol].missed(since, until)
        if market.charge is line and market.channel == "orderbooks" and not line.is_whole(market.symbol):
            self._pass_on(market, line)
        self._tell_spans(line, market, gap, self._unheard(market, [(since, until)], now))

    def _unheard(self, market: Market, spans: list[Span], now: int) -> list[Span]:
        """What no line vouches for, and readers do not know yet."""
        for line in (*market.lines, *market.earlier):
            spans = both(spans, line.witness(market.symbol, now).holes)
        return outside(spans, market.told)

    def _tell_spans(self, line: Line, market: Market, gap: Gap, spans: list[Span]) -> None:
        for since, until in spans:
            market.told.append((since, until))
            ends = None if gap.until is None and until == gap.received else until
            around = market.trades.around(since, until) if isinstance(market.trades, NamedTrades) else (None, None)
            self._tell(market, replace(gap, since=since, until=ends), *around)
        charge = market.charge
        if spans and charge is not line and charge.is_whole(market.symbol):
            charge.feed.do(charge.adapter.republish(market.symbol))  # its own whole book follows a gap unasked

    def _tell(self, market: Market, gap: Gap, last: LastTrade | None, end: tuple[str, int] | None) -> None:
        """A hole of all lines, which the one in charge fills."""
        self._withheld["gaps"] -= 1
        self._put(gap)
        if market.channel == "trades":
            if not market.charge.feed.is_open:
                self._pass_on(market, market.charge)
            charge = market.charge
            charge.feed.do(charge.adapter.fill(market.symbol, gap, last, end, monotonic()))
        elif market.shown is not None:
            market.shown.end()


def _now() -> int:
    """As `received` is taken: microseconds UTC."""
    return time_ns() // 1000
