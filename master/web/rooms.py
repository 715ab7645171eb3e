"""The rooms of the master that the API asks."""

from dataclasses import dataclass
from typing import Protocol

from master.history.questions import Found, Question
from master.live.market import Market
from master.live.pulse import Pulse
from master.pricing.prices import Prices
from master.web.metrics import Usage, Vitals


class Answering(Protocol):
    """Whoever answers questions about the past: reader.Reader."""

    @property
    def is_up(self) -> bool: ...
    async def ask(self, question: Question) -> Found:
        """Raises QuestionError, ReaderError."""
        ...


@dataclass(frozen=True, slots=True)
class Rooms:
    vitals: Vitals
    market: Market
    prices: Prices
    reader: Answering
    pulse: Pulse
    usage: Usage
