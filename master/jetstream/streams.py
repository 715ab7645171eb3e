"""Streams and the bucket as the configuration wants them: made where they are missing, changed where they differ."""

from nats.js import api
from nats.js.client import JetStreamContext
from nats.js.errors import APIError, NotFoundError

from master.jetstream.settings import JetStreamSettings, Market, Queue
from master.jetstream.subjects import CLAIMS, MARKET, QUEUE
from master.log import logger

log = logger("jetstream")

BUCKET_STREAM = f"KV_{CLAIMS}"


class StreamError(Exception):
    """A stream on the server cannot become what the configuration says, and what to do about it."""


def wanted(settings: JetStreamSettings) -> list[api.StreamConfig]:
    """What is to be on the server. Batches go when a master has acknowledged them, and never to make room."""
    streams = [_queue(settings.queue), _bucket(settings.queue)]
    if settings.republish is not None and settings.republish.keep is not None:
        streams.append(_market(settings.republish.keep))
    return streams


def _queue(queue: Queue) -> api.StreamConfig:
    return api.StreamConfig(
        name=QUEUE,
        subjects=[f"{QUEUE}.*.*"],
        retention=api.RetentionPolicy.WORK_QUEUE,
        discard=api.DiscardPolicy.NEW,
        storage=api.StorageType(queue.storage),
        num_replicas=queue.replicas,
        max_bytes=int(queue.max_gb * 1e9),
        max_age=(queue.max_hours or 0) * 3600,
        duplicate_window=queue.duplicate_seconds,
        allow_direct=True,
    )


def _bucket(queue: Queue) -> api.StreamConfig:
    return api.StreamConfig(
        name=BUCKET_STREAM,
        subjects=[f"$KV.{CLAIMS}.>"],
        discard=api.DiscardPolicy.NEW,
        storage=api.StorageType(queue.storage),
        num_replicas=queue.replicas,
        max_msgs_per_subject=1,
        duplicate_window=queue.duplicate_seconds,
        allow_msg_ttl=True,
        allow_rollup_hdrs=True,
        allow_direct=True,
        deny_delete=True,
    )


def _market(keep: Market) -> api.StreamConfig:
    return api.StreamConfig(
        name=MARKET,
        subjects=[f"{MARKET}.>"],
        discard=api.DiscardPolicy.OLD,
        storage=api.StorageType(keep.storage),
        num_replicas=keep.replicas,
        max_bytes=int(keep.max_gb * 1e9),
        max_age=keep.max_hours * 3600,
        duplicate_window=keep.duplicate_seconds,
        # An fsync for each event would be the slowest thing of all, and history has them; only one replica may do so.
        persist_mode=api.PersistMode.ASYNC if keep.replicas == 1 and keep.storage == "file" else None,
        allow_direct=True,
    )


async def reconcile(js: JetStreamContext, settings: JetStreamSettings) -> None:
    """Raises StreamError where the server refuses a change, such as of the storage; nothing is ever deleted here."""
    for config in wanted(settings):
        assert config.name is not None
        try:
            there = (await js.stream_info(config.name)).config
        except NotFoundError:
            await js.add_stream(config)
            log.info("stream made", stream=config.name)
            continue
        changes = {name: value for name, value in _told(config).items() if getattr(there, name) != value}
        if not changes:
            continue
        try:
            await js.update_stream(there.evolve(**changes))
            log.info("stream changed", stream=config.name, changes=sorted(changes))
        except APIError as error:
            raise StreamError(
                f"stream {config.name} on the server differs in {', '.join(sorted(changes))}, and cannot be changed "
                f"({error.description}); configure it as it is, or drain and remove it (nats stream rm {config.name})"
            ) from error


def _told(config: api.StreamConfig) -> dict[str, object]:
    """What we care for."""
    names = (
        *("subjects", "retention", "discard", "storage", "num_replicas", "max_bytes", "max_age", "duplicate_window"),
        "max_msgs_per_subject",
    )
    return {name: value for name in names if (value := getattr(config, name)) is not None}
