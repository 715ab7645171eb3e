"""Candles to the consumers that have subscribed to them: looked at a few times a second, while somebody listens.

A topic is one interval of one market, or of a symbol over all exchanges. Of each of its candles the newest state is told: of
the one under way as it grows, then closed, and again when a late trade corrects it.
"""

import asyncio
from time import time_ns
from typing import NamedTuple

from adapters.events import Candle
from master.live.candles import Candles, Watch
from master.streams.consumers import positioned
from master.streams.outlet import Outlet
from master.streams.topics import ALL, Pattern

LOOK_EVERY = 0.25


class _Topic(NamedTuple):
    watch: Watch
    listeners: set[Outlet]


class CandleTopics:
    """Who listens to which candles, by the text of the topic."""

    def __init__(self, candles: Candles) -> None:
        self._candles = candles
        self._topics: dict[str, _Topic] = {}
        self._looking: asyncio.TimerHandle | None = None

    def listen(self, outlet: Outlet, pattern: Pattern) -> list[bytes]:
        """From here on the consumer hears what changes: the candle under way, if there is one."""
        now, text = time_ns() // 1000, pattern.text
        if text not in self._topics:
            exchange = "" if pattern.exchange == ALL else pattern.exchange
            self._topics[text] = _Topic(self._candles.watch(pattern.interval, pattern.symbol, exchange), set())
        self._tell(text, now)  # to the others; this one begins with what there is now
        topic = self._topics[text]
        topic.listeners.add(outlet)
        if self._looking is None:
            self._look_soon()
        candle = topic.watch.current(now)
        return [] if candle is None else [self._encoded(candle)]

    def stop_listening(self, outlet: Outlet, text: str) -> None:
        topic = self._topics[text]
        topic.listeners.remove(outlet)
        if not topic.listeners:
            self._candles.unwatch(topic.watch)
            del self._topics[text]
        if not self._topics and self._looking is not None:
            self._looking.cancel()
            self._looking = None

    def forget(self, outlet: Outlet) -> None:
        for text in [text for text, topic in self._topics.items() if outlet in topic.listeners]:
            self.stop_listening(outlet, text)

    def _look_soon(self) -> None:
        self._looking = asyncio.get_running_loop().call_later(LOOK_EVERY, self._look)

    def _look(self) -> None:
        self._look_soon()
        now = time_ns() // 1000
        for text in self._topics:
            self._tell(text, now)

    def _tell(self, text: str, now: int) -> None:
        topic = self._topics[text]
        for candle in topic.watch.changes(now):
            data = self._encoded(candle)
            for outlet in topic.listeners:
                outlet.put_view(text, data, 1, candle.start)

    def _encoded(self, candle: Candle) -> bytes:
        return positioned(candle, self._candles.position)
