"""The key ring: `<data>/keys.json`, a key for each role and another while the one is being replaced by the other.

The file is written aside, fsynced and renamed under a lock, so that a reader finds it whole; whoever but its owner can read it,
it is refused. Beside the ring stands the shared key of the configuration (`master.key`), whose id is "".
"""

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from time import time_ns
from typing import Literal

import msgspec
from msgspec import Struct
from msgspec.structs import replace

from master import auth
from master.auth import PLACEHOLDER_KEY, ROLES, Role
from master.segments import sync_path

MOST_LIVE = 2
"""Live keys of a role: the one in use, and the one that takes its place."""
FOR_OTHERS = 0o077

Stamp = tuple[int, int, int, int]


class KeyRingError(Exception):
    """The key ring cannot be read or changed as wanted, and what to do about it."""


class Key(Struct, frozen=True):
    """One key. Times are microseconds UTC, `expires` and `revoked` null where there is none. A revoked key's secret is ""."""

    id: str
    key: str
    role: Role
    name: str
    created: int
    expires: int | None = None
    revoked: int | None = None

    @property
    def state(self) -> Literal["live", "expired", "revoked"]:
        if self.revoked is not None:
            return "revoked"
        # Wall clock on purpose: a date is what its owner gave it.
        return "live" if self.expires is None or now() < self.expires else "expired"

    def __repr__(self) -> str:
        return f"Key({self.id!r}, role={self.role!r}, {self.state})"


class _File(Struct):
    keys: list[Key]


_decoder = msgspec.json.Decoder(_File)


def now() -> int:
    return time_ns() // 1000


def file_in(data: Path) -> Path:
    return data / "keys.json"


class KeyRing:
    """Every key that the master takes. Follows its file whenever it is told to look."""

    def __init__(self, file: Path, shared: str) -> None:
        """Raises KeyRingError."""
        self.keys: tuple[Key, ...] = ()
        self._file = file
        # A key of the ring that the configuration names as well stays one of the ring: it must be possible to revoke it.
        self._shared = shared if auth.split_key(shared)[0] == "" else None
        self._stamp: Stamp | None = None
        self.refresh()

    @property
    def live(self) -> list[Key]:
        return [key for key in self.keys if key.state == "live"]

    def refresh(self) -> bool:
        """Read the file if it is another than before: whether it is. Blocks. Raises KeyRingError, and keeps what it had."""
        stamp = _stamp(self._file)
        if stamp == self._stamp:
            return False
        self.keys = tuple(read(self._file))
        self._stamp = stamp
        return True

    def secret(self, kid: str, role: str) -> str | None:
        """The secret of this key, if it is live and may be used in this role. The shared key has all roles."""
        if role not in ROLES:
            return None
        if kid == "":
            # Whoever has made a key has done with trying: the placeholder, which everybody knows, is none from then on.
            return None if self._shared == PLACEHOLDER_KEY and self.keys else self._shared
        found = self._find(kid)
        return found.key if found is not None and found.role == role and found.state == "live" else None

    def describe(self, kid: str) -> str:
        """This key as the log may name it: an id that is none of ours may be anything, even a secret."""
        if kid == "":
            return "the shared key"
        found = self._find(kid)
        return f"{found.role} key {kid}, {found.state}" if found is not None else "an unknown key"

    def _find(self, kid: str) -> Key | None:
        return next((key for key in self.keys if key.id == kid), None)


def _stamp(file: Path) -> Stamp | None:
    try:
        found = file.stat()
    except (FileNotFoundError, NotADirectoryError):
        return None
    except OSError as error:
        raise KeyRingError(f"{file}: cannot be read ({error.strerror})") from error
    return found.st_mtime_ns, found.st_ino, found.st_size, found.st_mode  # the mode may be what was wrong before


def read(file: Path) -> list[Key]:
    """The keys, oldest first; none where there is no file. Raises KeyRingError."""
    try:
        with file.open("rb") as opened:
            if os.fstat(opened.fileno()).st_mode & FOR_OTHERS:
                raise KeyRingError(f"{file}: others can read the keys; chmod 600 {file}, and replace them if somebody may have")
            return _decoder.decode(opened.read()).keys
    except (FileNotFoundError, NotADirectoryError):
        return []
    except OSError as error:
        raise KeyRingError(f"{file}: cannot be read ({error.strerror}); it must belong to the master's user") from error
    except msgspec.MsgspecError as error:
        raise KeyRingError(f"{file}: is no key ring ({error}); restore it, or move it away and make new keys") from error


def make(file: Path, role: Role, name: str = "", lifetime: timedelta | None = None) -> Key:
    """Add a key. Raises KeyRingError, also where the role has two live ones."""
    with _changing(file) as keys:
        live = [key.id for key in keys if key.role == role and key.state == "live"]
        if len(live) >= MOST_LIVE:
            raise KeyRingError(
                f"role {role} has two live keys, {' and '.join(live)}; revoke the one that is no longer used: "
                f"python -m master keys revoke {live[0]}"
            )
        kid, secret = auth.new_key()
        expires = None if lifetime is None else now() + lifetime // timedelta(microseconds=1)
        made = Key(kid, secret, role, name, now(), expires)
        keys.append(made)
    return made


def revoke(file: Path, kid: str) -> Key:
    """End a key; its secret is forgotten, its name is kept. Raises KeyRingError where there is none."""
    with _changing(file) as keys:
        index = next((index for index, key in enumerate(keys) if key.id == kid), None)
        if index is None:
            raise KeyRingError(f"there is no key {kid} in {file}; python -m master keys list shows them")
        if keys[index].revoked is None:
            keys[index] = replace(keys[index], key="", revoked=now())
        return keys[index]


def table(keys: list[Key]) -> Iterator[str]:
    """What people may see of these keys, a line each."""
    yield f"{'ID':11}{'ROLE':11}{'STATE':9}{'CREATED':18}{'EXPIRES':18}NAME"
    for key in keys:
        expires = "never" if key.expires is None else _date(key.expires)
        yield f"{key.id:11}{key.role:11}{key.state:9}{_date(key.created):18}{expires:18}{key.name}".rstrip()


def _date(micros: int) -> str:
    return f"{datetime.fromtimestamp(micros / 1e6, UTC):%Y-%m-%d %H:%M}"


@contextmanager
def _changing(file: Path) -> Iterator[list[Key]]:
    """The keys, which are written back as they are at the end. One at a time; all or nothing."""
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        with file.with_suffix(".lock").open("a") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            keys = read(file)
            yield keys
            _write(file, keys)
    except OSError as error:
        raise KeyRingError(f"{file}: cannot be written ({error.strerror})") from error


def _write(file: Path, keys: list[Key]) -> None:
    aside = file.with_suffix(".writing")
    aside.unlink(missing_ok=True)  # of one that was killed
    with os.fdopen(os.open(aside, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as opened:
        opened.write(msgspec.json.format(msgspec.json.encode(_File(keys)), indent=1))
        opened.flush()
        os.fsync(opened.fileno())
    aside.rename(file)
    sync_path(file.parent)
