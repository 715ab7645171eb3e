"""Events as they come, to the consumers that have subscribed to them (docs/streams.md).

Each event is looked up once, and encoded once if anybody listens. It is gathered with the others of its topic, and every 50 ms
each consumer gets one message of what its topics have gathered: what a consumer costs is a matter of topics, not of events.
"""

import asyncio
from collections.abc import Hashable, Iterable, Sequence

from msgspec.structs import replace

from adapters.events import Event, Gap
from master.live.books import doubted
from master.live.candles import Candles
from master.streams.candle_topics import CandleTopics
from master.streams.consumers import positioned
from master.streams.outlet import FRAME_BYTES, Figures, Outlet
from master.streams.topics import CHANNELS, Channel, Pattern

FLUSH_EVERY = 0.05

_CHANNELS_OF = {
    kind: [channel for channel in CHANNELS.values() if kind in channel.kinds]
    for channel in CHANNELS.values()
    for kind in channel.kinds
    if kind is not Gap
}


class Topic:
    """One market's part of one channel: who listens, and what is gathered for them."""

    __slots__ = ("channel", "exchange", "gathered", "is_view", "last", "listeners", "position", "symbol", "updates")

    def __init__(self, channel: Channel, exchange: str, symbol: str) -> None:
        self.channel = channel
        self.exchange = exchange
        self.symbol = symbol
        self.is_view = channel.is_view
        self.listeners: set[Outlet] = set()
        self.gathered: list[bytes] = []
        self.last: Event | None = None
        """Of a view: its state, also while nobody listens."""
        self.position = 0
        self.updates = 0
        """States of a view since it was last told."""

    def is_chosen_by(self, pattern: Pattern) -> bool:
        return pattern.channel is self.channel and pattern.fits(self.exchange, self.symbol)


class Fanout:
    """Who listens to what. `hear` is an audience of ingest."""

    def __init__(self, candles: Candles, position: int = 0) -> None:
        """`candles`: an audience before this one. `position`: that behind which the first event will be."""
        self.figures = Figures()
        self.clients: set[Outlet] = set()
        self.position = position
        """Of the newest event heard."""
        self._candles = CandleTopics(candles)
        self._topics: dict[tuple[str, str, str], Topic] = {}
        self._routes: dict[tuple[type, str, str | None], tuple[Topic, ...]] = {}
        self._active: list[Topic] = []
        self._gathered_bytes = 0
        self._flushing: asyncio.TimerHandle | None = None

    # Who listens.

    def listen(self, outlet: Outlet, patterns: Iterable[Pattern]) -> list[bytes]:
        """From here on the consumer hears what these choose: the present state of all views among it."""
        self.flush()
        found: dict[Topic, None] = {}
        candles: list[bytes] = []
        for pattern in patterns:
            outlet.patterns[pattern.text] = pattern
            if pattern.interval:
                candles += self._candles.listen(outlet, pattern)
            else:
                found.update(dict.fromkeys(self._chosen(pattern)))
        for topic in found:
            topic.listeners.add(outlet)
        self._routes.clear()
        return [positioned(topic.last, topic.position) for topic in found if topic.last is not None] + candles

    def _chosen(self, pattern: Pattern) -> list[Topic]:
        if pattern.exact is not None:  # without a look at all that there are
            topic = self._topics.get((pattern.channel.name, *pattern.exact))
            return [] if topic is None else [topic]
        return [topic for topic in self._topics.values() if topic.is_chosen_by(pattern)]

    def stop_listening(self, outlet: Outlet, texts: Iterable[str]) -> None:
        """These patterns of it choose no longer; what is chosen by another of its patterns stays."""
        self.flush()
        candles = [text for text in texts if outlet.patterns.pop(text).interval]
        for text in candles:
            self._candles.stop_listening(outlet, text)
        dropped: set[Hashable] = {*candles}
        for topic in self._topics.values():
            if outlet in topic.listeners and not any(topic.is_chosen_by(each) for each in outlet.patterns.values()):
                topic.listeners.remove(outlet)
                dropped.add(topic)
        outlet.drop_views(dropped)
        self._routes.clear()

    def forget(self, outlet: Outlet) -> None:
        self.clients.discard(outlet)
        self._candles.forget(outlet)
        for topic in self._topics.values():
            topic.listeners.discard(outlet)
        self._routes.clear()

    # Events.

    def hear(self, events: Sequence[Event], position: int) -> None:
        """Durable events in order, the first at this position."""
        routes = self._routes
        for event in events:
            topics = routes.get((type(event), event.exchange, event.symbol))
            for topic in self._route(event, position) if topics is None else topics:
                if topic.is_view:
                    self._show(topic, event, position)
                else:
                    self._gather(topic, event, position)
            position += 1
        self.position = max(self.position, position - 1)

    def recall(self, event: Event, position: int) -> None:
        """The newest of a view from before a start, unless this life has heard a newer one."""
        for channel in _CHANNELS_OF.get(type(event), []):
            if channel.is_view and (topic := self._topic(channel, event.exchange, event.symbol or "")).last is None:
                self._show(topic, event, position)

    def _route(self, event: Event, position: int) -> tuple[Topic, ...]:
        """Where events of this kind and market go: the views of it, and the streams that somebody listens to."""
        if isinstance(event, Gap):
            self._tell_gap(event, position)
            return ()
        channels = _CHANNELS_OF.get(type(event), [])
        topics = [self._topic(channel, event.exchange, event.symbol or "") for channel in channels]
        found = tuple(topic for topic in topics if topic.is_view or topic.listeners)
        self._routes[type(event), event.exchange, event.symbol] = found
        return found

    def _topic(self, channel: Channel, exchange: str, symbol: str) -> Topic:
        key = (channel.name, exchange, symbol)
        if (topic := self._topics.get(key)) is None:
            topic = self._topics[key] = Topic(channel, exchange, symbol)
            for outlet in self.clients:
                if any(topic.is_chosen_by(each) for each in outlet.patterns.values()):
                    topic.listeners.add(outlet)
        return topic

    def _gather(self, topic: Topic, event: Event, position: int) -> None:
        data = positioned(event, position)
        if not topic.gathered:
            self._activate(topic)
        topic.gathered.append(data)
        self._gathered_bytes += len(data)
        if self._gathered_bytes >= FRAME_BYTES:
            self.position = position
            self.flush()

    def _show(self, topic: Topic, event: Event, position: int) -> None:
        topic.last, topic.position = event, position
        if topic.listeners:
            if not topic.updates:
                self._activate(topic)
            topic.updates += 1

    def _activate(self, topic: Topic) -> None:
        self._active.append(topic)
        if self._flushing is None:
            self._flushing = asyncio.get_running_loop().call_later(FLUSH_EVERY, self.flush)

    def _tell_gap(self, gap: Gap, position: int) -> None:
        """Gaps are few, and one may be about many markets: each has its place between what was before it and after it."""
        listening = [outlet for outlet in self.clients if any(each.chooses(gap) for each in outlet.streams)]
        if listening:
            self.position = position - 1
            self.flush()
            data = positioned(gap, position)
            for outlet in listening:
                outlet.put_events([data], 1, position)
            self.position = position
        if (scope := doubted(gap)) is not None:
            symbol, exchange = scope
            for topic in list(self._topics.values()):
                if topic.channel.name == "books" and symbol in (None, topic.symbol) and exchange in (None, topic.exchange):
                    self._show(topic, replace(gap, exchange=topic.exchange, symbol=topic.symbol), position)

    def flush(self) -> None:
        """Give what was gathered to those who listen."""
        if self._flushing is not None:
            self._flushing.cancel()
            self._flushing = None
        active, self._active = self._active, []
        self._gathered_bytes = 0
        due: dict[Outlet, int] = {}
        for topic in active:
            if topic.is_view:
                self._flush_view(topic)
                continue
            data, count = b",".join(topic.gathered), len(topic.gathered)
            topic.gathered.clear()
            for outlet in topic.listeners:
                outlet.parts.append(data)
                due[outlet] = due.get(outlet, 0) + count
        for outlet, count in due.items():
            outlet.put_events(outlet.parts, count, self.position)
            outlet.parts.clear()

    @staticmethod
    def _flush_view(topic: Topic) -> None:
        assert topic.last is not None
        data = positioned(topic.last, topic.position)
        for outlet in topic.listeners:
            outlet.put_view(topic, data, topic.updates)
        topic.updates = 0
