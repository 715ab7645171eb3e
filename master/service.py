"""The running master: ingest, journal, sealing and HTTP in one process, from its start to its drained end."""

import asyncio
import errno
import fcntl
import os
import sys
from collections.abc import Iterator
from contextlib import AsyncExitStack, suppress
from pathlib import Path
from socket import AF_INET, AF_INET6, create_server, socket

import orjson
from websockets.asyncio.server import serve

from master.auth import PLACEHOLDER_KEY
from master.door import LOGIN_WITHIN, Door
from master.ingest import Ingest
from master.journal import Journal, recover
from master.keys import KeyRing, KeyRingError, file_in
from master.log import logger
from master.protocol import MAX_BEFORE_LOGIN, Receiver
from master.segments import position
from master.serving import Serving
from master.settings import ConfigError, MasterSettings, Server, is_loopback
from master.tls import Certificate, TlsError
from master.web.port import listening

log = logger("master")

PING_EVERY = 20.0
CLOSE_WITHIN = 2.0
LEAVE_WITHIN = 5.0
"""Seconds in which what was read from NATS should be acknowledged at the end; else it comes again."""
LOOK_AT_KEYS_EVERY = 1.0
TIDY_EVERY = 600.0
"""Seconds between looks at the lake's age and size, beside the one after each sealing."""
NICENESS = 10
"""Of the child that seals: what arrives goes first."""
SEAL_RETRY = 60.0


class StartError(Exception):
    """The master cannot start here, and what to do about it."""


async def run(settings: MasterSettings, stop: asyncio.Event, hangup: asyncio.Event | None = None) -> None:
    """Serve until `stop` is set; then make durable what was taken, and end. Raises StartError, ConfigError.

    When `hangup` is set, keys and certificate are read again.
    """
    server = settings.server
    ring = _ring(settings)
    if faults := [*_faults(settings, ring)]:
        raise ConfigError(*faults)
    certificate = _certificate(server)
    async with AsyncExitStack() as stack:
        ingest_socket = _bind("server.port", server.host, server.port, stack)
        http_socket = _bind("server.http_port", server.host, server.http_port, stack)
        journal_folder = _claim(server.data, stack)
        try:
            recovery = recover(journal_folder)
            sealer = Sealer(settings, recovery.segments)
            door = Door(ring, server.allow_legacy)
            ingest = Ingest(door, Receiver(recovery.marks), server.data / "dead-letters", recovery.newest)
            recovery.newest = None  # as large as a segment, and read
            journal = Journal(
                *(journal_folder, recovery, ingest.committed, sealer.add),
                roll_bytes=server.segment_mb << 20,
                roll_seconds=server.segment_minutes * 60,
                heading=ingest.heading,
            )
            serving = Serving(settings, ring, ingest, journal, position(recovery.next_number, 0))
        except OSError as error:
            raise _unusable(error.filename or journal_folder, error) from error
        stack.callback(journal.close)
        stack.push_async_callback(serving.close)
        committing = asyncio.create_task(ingest.run(journal))
        sealing = asyncio.create_task(sealer.run())
        stack.push_async_callback(_end, sealing)
        minding = asyncio.create_task(_mind(door, ring, certificate, hangup or asyncio.Event()))
        stack.push_async_callback(_end, minding)
        working = asyncio.create_task(serving.run())
        stack.push_async_callback(_end, working)
        await _serve(ingest, door, ingest_socket, certificate, stack)
        tls = None if certificate is None else certificate.context
        await stack.enter_async_context(listening(serving.application(), http_socket, server.http.connections, tls))
        _announce(server, ingest_socket, http_socket, stack)
        ending = asyncio.Event()
        reading = asyncio.create_task(_read_nats(settings, ingest, ending))
        stack.push_async_callback(_end, reading)
        await _until(stop, committing, sealing, minding, working, reading)
        working.cancel()  # no price is made any more
        ending.set()
        await asyncio.wait({reading}, timeout=LEAVE_WITHIN)
        await ingest.close()
        journal.stop()
        await committing
        await serving.say_farewell()
    log.info("ended", stored=ingest.stored)


async def _end(task: asyncio.Task[None]) -> None:
    """Cancel it, and wait for that: a child process of it must be gone before the loop is."""
    task.cancel()
    await asyncio.wait({task})


def _ring(settings: MasterSettings) -> KeyRing:
    """Raises StartError."""
    try:
        return KeyRing(file_in(settings.server.data), settings.master.key.get_secret_value())
    except KeyRingError as error:
        raise StartError(str(error)) from error


def _faults(settings: MasterSettings, ring: KeyRing) -> Iterator[str]:
    """What is good enough for this machine alone, and not where others reach it."""
    server = settings.server
    if (server.tls_cert is None) != (server.tls_key is None):
        yield "server.tls_cert and server.tls_key: the one is of no use without the other"
    if is_loopback(server.host):
        return
    if settings.master.key.get_secret_value() == PLACEHOLDER_KEY and not ring.live:
        yield (
            f"server.host: {server.host} can be reached from outside, but master.key is still the placeholder; "
            "set one of your own, such as COLLECTOR_MASTER__KEY=$(openssl rand -hex 32), "
            "or make keys: python -m master keys new --role collector"
        )
    if server.tls_cert is None and not server.allow_plaintext:
        yield (
            f"server.host: {server.host} can be reached from outside, and nothing would be encrypted; set server.tls_cert and "
            "server.tls_key, or server.allow_plaintext to true where the network itself is trusted"
        )


def _certificate(server: Server) -> Certificate | None:
    """Raises ConfigError."""
    if server.tls_cert is None or server.tls_key is None:
        return None
    try:
        return Certificate(server.tls_cert, server.tls_key)
    except TlsError as error:
        raise ConfigError(f"server.tls_cert, server.tls_key: {error}") from error


async def _mind(door: Door, ring: KeyRing, certificate: Certificate | None, hangup: asyncio.Event) -> None:
    """Follow the key ring, and end sessions whose key was revoked or has expired; also renew the certificate, when told."""
    if not ring.live and ring.secret("", "collector") is None:
        log.error("no key is live, so that nobody can log in; make one: python -m master keys new --role collector")
    trouble: str | None = None
    while True:
        try:
            async with asyncio.timeout(LOOK_AT_KEYS_EVERY):
                await hangup.wait()
            hangup.clear()
            _renew(certificate)
        except TimeoutError:
            pass
        said, trouble = trouble, None
        try:
            if await asyncio.to_thread(ring.refresh):
                log.info("key ring read", live=[key.id for key in ring.live])
        except KeyRingError as error:
            trouble = str(error)
            if trouble != said:
                log.error("cannot read the key ring; the keys are as they were before", reason=trouble)
        await door.expel()


def _renew(certificate: Certificate | None) -> None:
    if certificate is None:
        return
    try:
        certificate.renew()
        log.info("certificate read")
    except TlsError as error:
        log.error("cannot renew the certificate; it stays as it was before", reason=str(error))


async def _until(stop: asyncio.Event, *tasks: asyncio.Task[None]) -> None:
    """Wait for the signal to end; a task that fails before is an error of the program, and raised."""
    waiting = asyncio.create_task(stop.wait())
    done, _ = await asyncio.wait({waiting, *tasks}, return_when=asyncio.FIRST_COMPLETED)
    for task in done - {waiting}:
        task.result()
    waiting.cancel()


async def _read_nats(settings: MasterSettings, ingest: Ingest, ending: asyncio.Event) -> None:
    """Take batches from NATS until the end, where that is configured; only then its library is imported."""
    if not settings.jetstream.servers:
        await ending.wait()
        return
    from master.jetstream.intake import Intake  # noqa: PLC0415

    await Intake(settings.jetstream, settings.server.data, ingest, ending).run()


def _claim(data: Path, stack: AsyncExitStack) -> Path:
    """Make the data directory this process's own. Raises StartError."""
    journal = data / "journal"
    try:
        journal.mkdir(parents=True, exist_ok=True)
        (data / "lake").mkdir(exist_ok=True)
        lock = stack.enter_context((data / "master.lock").open("a"))
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        raise StartError(f"{data}: another master is using this data directory; stop it, or give --data another one") from error
    except OSError as error:
        raise _unusable(data, error) from error
    return journal


def _unusable(place: Path | str, error: OSError) -> StartError:
    return StartError(
        f"{place}: cannot be used ({error.strerror}); make it readable and writable, or give --data another directory"
    )


def _bind(key: str, host: str, port: int, stack: AsyncExitStack) -> socket:
    """Raises StartError."""
    try:
        bound = create_server((host, port), family=AF_INET6 if ":" in host else AF_INET)
    except OSError as error:
        if error.errno == errno.EADDRINUSE:
            raise StartError(f"{host}:{port} is in use: is a master running already? Else set {key} to another port") from error
        raise StartError(f"{host}:{port} cannot be listened on ({error.strerror}); see server.host and {key}") from error
    stack.callback(bound.close)
    return bound


async def _serve(ingest: Ingest, door: Door, listening: socket, certificate: Certificate | None, stack: AsyncExitStack) -> None:
    server = serve(
        ingest.serve,
        sock=listening,
        ssl=None if certificate is None else certificate.context,
        create_connection=door.connection,
        process_request=door.turned_away,
        compression=None,
        max_size=MAX_BEFORE_LOGIN,
        open_timeout=LOGIN_WITHIN,
        ping_interval=PING_EVERY,
        ping_timeout=PING_EVERY,
        close_timeout=CLOSE_WITHIN,
    )
    await stack.enter_async_context(server)


def _announce(server: Server, ingest: socket, http: socket, stack: AsyncExitStack) -> None:
    """Leave word for people and for programs of this machine where this master listens."""
    host, port = ingest.getsockname()[:2]
    http_port = http.getsockname()[1]
    scheme = "http" if server.tls_cert is None else "https"
    file = server.data / "master.json"
    aside = file.with_suffix(".writing")
    aside.write_bytes(orjson.dumps({"pid": os.getpid(), "port": port, "http_port": http_port}))
    aside.rename(file)  # whoever waits for it finds it whole
    stack.callback(file.unlink, missing_ok=True)
    log.info("listening", ingest=f"{host}:{port}", http=f"{scheme}://{host}:{http_port}", data=str(server.data))


class Sealer:
    """Turns closed segments into Parquet, one at a time, in a child process that takes no time from acknowledgements."""

    def __init__(self, settings: MasterSettings, segments: list[Path]) -> None:
        self._server = settings.server
        self._segments = list(segments)
        self._wake = asyncio.Event()
        self._wake.set()

    def add(self, segment: Path) -> None:
        self._segments.append(segment)
        self._wake.set()

    async def run(self) -> None:
        """Until cancelled. What cannot be sealed stays in the journal, where queries find it, and is tried again."""
        while True:
            try:
                async with asyncio.timeout(TIDY_EVERY):
                    await self._wake.wait()
            except TimeoutError:
                pass
            self._wake.clear()
            segments = list(self._segments)
            if await self._tidy(segments):
                self._segments = [each for each in self._segments if each not in segments]
            elif segments:
                await asyncio.sleep(SEAL_RETRY)
                self._wake.set()

    async def _tidy(self, segments: list[Path]) -> bool:
        """Seal these, and keep the lake within its age and size."""
        server = self._server
        if not segments and not (server.data / "lake").exists():
            return True  # a beginning: 0.7 s of CPU for nothing
        limits = (f"--days={server.retention_days}", f"--bytes={int(server.retention_gb * 1e9)}")
        command = ("-m", "master", "tidy", "--data", str(server.data), *limits, *map(str, segments))
        try:
            child = await asyncio.create_subprocess_exec(sys.executable, *command, stderr=asyncio.subprocess.PIPE)
        except OSError as error:  # no memory, or as many processes as there may be
            log.error("cannot seal; the segments stay in the journal", reason=str(error))
            return False
        with suppress(ProcessLookupError):  # it may have ended
            os.setpriority(os.PRIO_PROCESS, child.pid, NICENESS)
        try:
            _, complaint = await child.communicate()
        except asyncio.CancelledError:
            child.terminate()
            await child.communicate()  # to the end of its pipe too
            raise
        if child.returncode != 0:
            log.error("cannot seal; the segments stay in the journal", reason=complaint.decode(errors="replace")[-500:])
        return child.returncode == 0
