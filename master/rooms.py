"""The rooms of the master that the API asks."""

from dataclasses import dataclass
from typing import Protocol

from master.history import Found, Question
from master.market import Market
from master.metrics import Usage, Vitals
from master.prices import Prices
from master.pulse import Pulse


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
