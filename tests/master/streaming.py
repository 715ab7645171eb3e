"""A consumer that is spoken by hand, and one that counts what it was told."""

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from websockets.exceptions import ConnectionClosed

from tests.master.running import Address, Collector, stranger
from tests.waiting import PATIENCE


class Consumer:
    """One connection."""

    def __init__(self, session: Collector) -> None:
        self.socket = session.socket
        self.number = 0

    async def say(self, op: str, **fields: Any) -> int:
        """Send a command: its id."""
        self.number += 1
        await self.socket.send(json.dumps({"op": op, "id": self.number, **fields}))
        return self.number

    async def hear(self, op: str) -> dict[str, Any]:
        """The next message, which must be this."""
        async with asyncio.timeout(PATIENCE):
            message: dict[str, Any] = json.loads(await self.socket.recv())
        assert message["op"] == op, message
        return message

    async def subscribe(self, *topics: str, **more: Any) -> dict[str, Any]:
        """Its acknowledgement."""
        number = await self.say("subscribe", topics=topics, **more)
        answer = await self.hear("subscribed")
        assert answer["id"] == number
        return answer

    async def events(self, count: int, op: str = "events") -> list[dict[str, Any]]:
        """So many events, exactly, in the order in which they came; further ones of the same message are one too many."""
        found: list[dict[str, Any]] = []
        while len(found) < count:
            found += (await self.hear(op))["events"]
        assert len(found) == count, found
        return found

    async def refused(self, op: str, **fields: Any) -> dict[str, Any]:
        """What is wrong with this command."""
        number = await self.say(op, **fields)
        answer = await self.hear("error")
        assert answer["id"] == number
        return answer

    async def rest(self) -> list[dict[str, Any]]:
        """Everything until the end."""
        found = []
        async with asyncio.timeout(PATIENCE):
            try:
                while True:
                    found.append(json.loads(await self.socket.recv()))
            except ConnectionClosed:
                return found


@asynccontextmanager
async def consumer(to: Address, role: str = "consumer") -> AsyncIterator[Consumer]:
    async with stranger(to) as one:
        await one.log_in(role=role)
        yield Consumer(one)
