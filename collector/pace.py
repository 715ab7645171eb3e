"""Whose data has stopped while its connection lives: every market is measured by its own pace.

A market is silent when nothing came for three times as long as its longest pause of the last one or two hours, and for five
minutes at least. The longest pause, rather than a mean rate, because trades come in clusters: a market that rests for ten
minutes every hour is no fault when it does so again. One that was hardly ever heard is never called silent.
"""

from collections.abc import Mapping

from adapters.events import Channel

Market = tuple[Channel, str]

TIMES = 3
"""Pauses as long as the longest one after which a market is silent."""
FLOOR = 300.0
"""Seconds for which no market is silent, however fast it is."""
LEARNED = 60
"""Looks at which a market had news, before its pauses are believed."""
WINDOW = 3600.0
"""Seconds after which a longest pause is forgotten, at the earliest; twice as many, at the latest."""


class Pace:
    """Of one market: the mark of its newest data, when that was first seen (monotonic seconds), and its longest pauses."""

    __slots__ = ("at", "before", "heard", "longest", "looks")

    def __init__(self, heard: int, now: float) -> None:
        self.heard = heard
        self.at = now
        self.looks = 0
        self.longest = self.before = 0.0

    def look(self, heard: int, now: float) -> None:
        if heard != self.heard:
            self.longest = max(self.longest, now - self.at)
            self.heard, self.at = heard, now
            self.looks += 1

    def silent_for(self, now: float) -> float | None:
        """Seconds; None while it is within its pace, or little is known of it."""
        pause = now - self.at
        usual = max(self.longest, self.before)
        return pause if self.looks >= LEARNED and pause >= max(FLOOR, TIMES * usual) else None


class Paces:
    """Of all markets of an exchange. To be looked at every few seconds: a pause is known as exactly as that."""

    def __init__(self, now: float) -> None:
        self._paces: dict[Market, Pace] = {}
        self._window_ends = now + WINDOW

    def look(self, heard: Mapping[Market, int], now: float) -> None:
        """`heard`: a mark of the newest data of each market that is wanted, which changes with it; 0: none yet."""
        if now >= self._window_ends:
            self._window_ends = now + WINDOW
            for pace in self._paces.values():
                pace.before, pace.longest = pace.longest, 0.0
        for gone in self._paces.keys() - heard.keys():
            del self._paces[gone]
        for market, mark in heard.items():
            if not mark:
                continue
            if market in self._paces:
                self._paces[market].look(mark, now)
            else:
                self._paces[market] = Pace(mark, now)

    def silent(self, now: float) -> dict[Market, float]:
        """Those that are silent and for how many seconds, the longest first."""
        found = {market: pause for market, pace in self._paces.items() if (pause := pace.silent_for(now)) is not None}
        return dict(sorted(found.items(), key=lambda each: -each[1]))
