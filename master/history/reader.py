"""Both ends of the pipe to the child process that answers questions about what was stored, so that none delays an ack.

The child reads a question and writes its answer, each as four bytes of length and MessagePack. It ends when its pipe does, or
when its master is gone.
"""

import asyncio
import os
import signal
import sys
from asyncio.subprocess import PIPE, Process
from collections import deque
from contextlib import suppress
from pathlib import Path
from random import uniform
from select import select
from struct import Struct as Layout
from time import monotonic
from typing import TYPE_CHECKING, BinaryIO

import msgspec
from msgspec import Struct

from master.history.questions import Found, Question, QuestionError
from master.log import logger
from master.parent import end_with_parent

if TYPE_CHECKING:
    from master.history.answers import Answers

log = logger("reader")

ANSWER_WITHIN = 30.0
MOST_WAITING = 32
SLOWEST_RESTART = 30.0
NICENESS = 5
READY_AFTER = 10.0
"""Seconds after which there is a child although nobody has asked: not amid the start of everything else."""
FOLLOW_EVERY = 1.0
"""Seconds after which the child takes in what has come, so that no question waits for that."""
KEEN_EVERY, KEEN_FOR = 0.05, 10.0
"""The same while questions come, and the seconds after one in which they do."""
_LENGTH = Layout("<I")


class ReaderError(Exception):
    """There is no answer this time; the same question may have one later."""


class BusyError(ReaderError):
    """Too many questions wait already."""


class SlowError(ReaderError):
    """The answer took too long: ask for less, or later."""


class Fault(Struct, tag=True):
    """Why there is no answer. `field`: of the question, where that is wrong; `change` is what to do about it then."""

    change: str
    field: str | None = None


class Reply(Struct, tag=True):
    found: Found


_encode = msgspec.msgpack.Encoder().encode
_questions = msgspec.msgpack.Decoder(Question)
_replies = msgspec.msgpack.Decoder(Reply | Fault)


class _Waiting(Struct):
    question: bytes
    answer: asyncio.Future[Found]
    deadline: float


class Reader:
    """Answers questions, one at a time and in the order in which they came."""

    def __init__(self, data: Path, *, within: float = ANSWER_WITHIN) -> None:
        """`within`: seconds after which a question fails, waiting included."""
        self.within = within
        self._data = data
        self._waiting: deque[_Waiting] = deque()
        self._wake = asyncio.Event()
        self._child: Process | None = None
        self._failures = 0
        self._not_before = 0.0
        self._answering: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Begin to answer. The child starts with the first question, or in a moment without one."""
        self._answering = asyncio.create_task(self._run())

    async def close(self) -> None:
        """End the child. Whoever still waits gets ReaderError."""
        if self._answering is not None:
            self._answering.cancel()
            await asyncio.gather(self._answering, return_exceptions=True)
        await self._end()
        for each in self._waiting:
            _fail(each, ReaderError("the master ends"))

    @property
    def is_up(self) -> bool:
        """Whether a question would be worked at; not so in the pause after the child has died again."""
        return monotonic() >= self._not_before

    @property
    def pid(self) -> int | None:
        """Of the child; None while there is none."""
        return None if self._child is None else self._child.pid

    async def ask(self, question: Question) -> Found:
        """Raises QuestionError, BusyError, SlowError and ReaderError."""
        if len(self._waiting) >= MOST_WAITING:
            raise BusyError(f"{MOST_WAITING} questions wait already; ask again in a second")
        waiting = _Waiting(_encode(question), asyncio.get_running_loop().create_future(), monotonic() + self.within)
        self._waiting.append(waiting)
        self._wake.set()
        return await waiting.answer

    async def _run(self) -> None:
        try:
            async with asyncio.timeout(READY_AFTER):
                await self._wake.wait()
        except TimeoutError:
            with suppress(OSError):  # whoever asks first meets it too, and is told
                self._child = await self._spawn()
        while True:
            self._wake.clear()
            while self._waiting:
                waiting = self._waiting[0]  # it counts as waiting until it is answered
                if not waiting.answer.done():  # whoever asked may have gone
                    await self._survive(waiting)
                self._waiting.popleft()
            await self._wake.wait()

    async def _survive(self, waiting: _Waiting) -> None:
        """What nobody foresaw costs this question and the child, and no other."""
        try:
            await self._answer(waiting)
        except Exception as error:
            log.exception("failed at a question; what answers them starts anew")
            _fail(waiting, await self._died(error))

    async def _answer(self, waiting: _Waiting) -> None:
        try:
            async with asyncio.timeout_at(asyncio.get_running_loop().time() + waiting.deadline - monotonic()):
                reply = await self._exchange(waiting.question)
        except TimeoutError:
            await self._end()  # nothing else stops a question that is being worked at
            _fail(waiting, SlowError(f"no answer within {self.within:g} s; ask for less"))
        except (OSError, asyncio.IncompleteReadError, msgspec.MsgspecError) as error:
            _fail(waiting, await self._died(error))
        except ReaderError as error:
            _fail(waiting, error)
        else:
            self._failures = 0
            if isinstance(reply, Fault):
                _fail(waiting, ReaderError(reply.change) if reply.field is None else QuestionError(reply.field, reply.change))
            elif not waiting.answer.done():
                waiting.answer.set_result(reply.found)

    async def _exchange(self, question: bytes) -> Reply | Fault:
        """Raises ReaderError while it is too early to start a child again; OSError and IncompleteReadError where it dies."""
        if self._child is None:
            if (pause := self._not_before - monotonic()) > 0:
                raise ReaderError(f"what answers questions starts again in {pause:.0f} s")
            self._child = await self._spawn()
        assert self._child.stdin is not None
        assert self._child.stdout is not None
        self._child.stdin.write(_LENGTH.pack(len(question)) + question)
        await self._child.stdin.drain()
        (length,) = _LENGTH.unpack(await self._child.stdout.readexactly(_LENGTH.size))
        reply: Reply | Fault = _replies.decode(await self._child.stdout.readexactly(length))
        return reply

    async def _spawn(self) -> Process:
        command = (sys.executable, "-m", "master.history.reader", str(self._data))
        return await asyncio.create_subprocess_exec(*command, stdin=PIPE, stdout=PIPE)

    async def _died(self, error: Exception) -> ReaderError:
        """The first time it starts again at once; then later and later, until it answers."""
        code = await self._end()
        self._failures += 1
        pause = 0.0 if self._failures == 1 else uniform(0.5, 1.0) * min(SLOWEST_RESTART, 2.0 ** (self._failures - 2))  # noqa: S311 (no secret)
        self._not_before = monotonic() + pause
        log.error("what answers questions has died", code=code, error=str(error), again_in=round(pause, 1))
        return ReaderError("what answers questions has died meanwhile; ask again")

    async def _end(self) -> int | None:
        """End the child, whatever it does: its exit code."""
        child, self._child = self._child, None
        if child is None:
            return None
        if child.returncode is None:
            with suppress(ProcessLookupError):  # it may have ended just now
                child.kill()
        assert child.stdin is not None
        child.stdin.close()
        await child.communicate()  # to the end of its pipes: nothing of it is left for the end of the loop
        return child.returncode


def _fail(waiting: _Waiting, error: Exception) -> None:
    if not waiting.answer.done():
        waiting.answer.set_exception(error)


# The child ----------------------------------------------------------------------------------------------------------------


def main(data: Path) -> None:
    """Answer what standard input asks, until it ends."""
    end_with_parent(signal.SIGKILL)  # elsewhere the end of the pipe will do, once the question at hand is answered
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the terminal's Ctrl-C is for the master, who ends this
    os.nice(NICENESS)
    from master.history.answers import Answers  # noqa: PLC0415 (the other end needs none of that)
    from master.lake import LakeError  # noqa: PLC0415

    def reply(question: Question) -> Reply | Fault:
        try:
            return Reply(answers.answer(question))
        except QuestionError as error:
            return Fault(error.change, error.field)
        except LakeError as error:
            return Fault(str(error))
        except Exception as error:
            log.exception("failed at a question", question=question)
            return Fault(f"it failed at this: {type(error).__name__}; its log says more")

    answers = Answers(data)
    answers.look()
    while (question := _next(answers)) is not None:
        told = _encode(reply(_questions.decode(question)))
        sys.stdout.buffer.write(_LENGTH.pack(len(told)) + told)
        sys.stdout.buffer.flush()


def _next(answers: "Answers") -> bytes | None:
    """The next question, which is not sent before the one at hand was answered; None at the end."""
    keen_until = monotonic() + KEEN_FOR
    while not select([sys.stdin.buffer], [], [], KEEN_EVERY if monotonic() < keen_until else FOLLOW_EVERY)[0]:
        with suppress(OSError):  # whoever asks next meets it too, and is told
            answers.look()
    return _read(sys.stdin.buffer)


def _read(file: BinaryIO) -> bytes | None:
    """The next message; None at the end."""
    head = file.read(_LENGTH.size)
    return file.read(*_LENGTH.unpack(head)) if len(head) == _LENGTH.size else None


if __name__ == "__main__":
    main(Path(sys.argv[1]))
