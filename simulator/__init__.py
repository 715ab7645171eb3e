"""Local stand-ins for the exchanges: seeded markets behind each venue's own protocol, with faults on order.

`python -m simulator` runs it; `async with simulator.serve(...)` runs it inside a test. It shares no code with the
collector: it is an independent witness of what the venues say.
"""

from simulator.server import Simulator, serve

__all__ = ["Simulator", "serve"]
