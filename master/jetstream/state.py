"""How a master stands with NATS, for whoever shows it."""

from msgspec import Struct


class NatsState(Struct):
    """`trouble`: why nothing can be read from there now; `exchanges`: those that this master has; `published`, `left_out`:
    events that were published again, or could not be, since the start."""

    trouble: str | None = "not connected yet"
    exchanges: list[str] = []
    published: int = 0
    left_out: int = 0
