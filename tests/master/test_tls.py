"""TLS on the master's port: who believes whom, a certificate renewed under way, and no plain text to other machines unasked."""

import asyncio
import ssl
import subprocess
from collections.abc import Callable
from pathlib import Path
from shutil import which
from typing import Any

import pytest
from msgspec import Struct
from websockets.asyncio.client import ClientConnection, connect

from collector.master_pool import MasterPool
from master.service import StartError
from master.settings import ConfigError, is_loopback
from master.tls import Certificate, TlsError, trusting
from tests.hearing import Said, events, logs
from tests.master.making import STREAM, batch
from tests.master.running import KEY, Address, Collector, ids, running
from tests.master.test_service import start
from tests.waiting import until

pytestmark = pytest.mark.skipif(which("openssl") is None, reason="certificates are made with the openssl command")


class Authority(Struct):
    """One that signs certificates for localhost."""

    folder: Path

    @property
    def ca(self) -> Path:
        return self.folder / "ca.pem"

    def certify(self, name: str) -> tuple[Path, Path]:
        """A certificate and its key."""
        cert, key, request = (self.folder / f"{name}{end}" for end in (".pem", ".key", ".csr"))
        names = self.folder / "names"
        names.write_text("subjectAltName=DNS:localhost,IP:127.0.0.1\nauthorityKeyIdentifier=keyid\nsubjectKeyIdentifier=hash\n")
        openssl("req", *NEW_KEY, "-keyout", key, "-out", request, "-subj", f"/CN={name}")
        signed_by = ("-CA", self.ca, "-CAkey", self.folder / "ca.key", "-CAcreateserial")
        openssl("x509", "-req", "-in", request, *signed_by, "-days", "2", "-extfile", names, "-out", cert)
        return cert, key


NEW_KEY = ("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes")


def openssl(*words: str | Path) -> None:
    subprocess.run(["openssl", *map(str, words)], check=True, capture_output=True, timeout=20)


def authority(folder: Path) -> Authority:
    folder.mkdir()
    made = Authority(folder)
    may_sign = ("-addext", "keyUsage=critical,keyCertSign,cRLSign")  # Python 3.13 believes no authority without it
    openssl(
        "req", "-x509", *NEW_KEY, "-keyout", folder / "ca.key", "-out", made.ca, "-days", "2", "-subj", "/CN=tests", *may_sign
    )
    return made


@pytest.fixture(scope="module")
def ours(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return authority(tmp_path_factory.mktemp("tls") / "ours")


@pytest.fixture(scope="module")
def pair(ours: Authority) -> tuple[Path, Path]:
    return ours.certify("first")


def files(pair: tuple[Path, Path]) -> dict[str, Any]:
    return {"tls_cert": str(pair[0]), "tls_key": str(pair[1])}


async def shown(master: Address, ca: Path) -> str:
    """Whose certificate the master shows to the next connection."""
    async with secure(master, ca) as socket:
        return common_name(socket)


def secure(master: Address, ca: Path) -> connect:
    return connect(master.secure_url, ssl=trusting(ca), proxy=None, compression=None)


def common_name(socket: ClientConnection) -> str:
    subject = socket.transport.get_extra_info("peercert")["subject"]
    return str(dict(pair for part in subject for pair in part)["commonName"])


async def works(url: str, key: str, ca: Path | None, is_so: Callable[[MasterPool], object], said: Said) -> list[str]:
    """Run a pool until something is so: what it complained of."""
    pool = MasterPool(url, key, "host-0", 1, ca=ca)
    running_pool = asyncio.create_task(pool.run())
    try:
        await until(lambda: is_so(pool))
    finally:
        running_pool.cancel()
        await asyncio.gather(running_pool, return_exceptions=True)
    return [line["reason"] for line in said if line["event"] == "no master"]


class TestSession:
    async def test_a_session_over_it_is_like_any_other(self, data: Path, ours: Authority, pair: tuple[Path, Path]) -> None:
        async with running(data, **files(pair)) as master, secure(master, ours.ca) as socket:
            assert socket.transport.get_extra_info("ssl_object").version() in ("TLSv1.2", "TLSv1.3")
            one = Collector(socket)
            await one.log_in()
            await one.hello(STREAM)
            await one.send(batch(1))
            await one.acked(STREAM, 1)
        assert ids(data) == [1]

    async def test_a_collector_with_the_authority_is_connected(
        self, data: Path, ours: Authority, pair: tuple[Path, Path]
    ) -> None:
        with logs() as said:
            async with running(data, **files(pair)) as master:
                assert await works(master.secure_url, KEY, ours.ca, lambda pool: pool.live, said) == []

    async def test_one_without_it_says_what_to_look_at(self, data: Path, tmp_path: Path, pair: tuple[Path, Path]) -> None:
        theirs = authority(tmp_path / "theirs")
        with logs() as said:
            async with running(data, **files(pair)) as master:
                for ca in (None, theirs.ca):
                    said.clear()
                    (reason, *_) = await works(master.secure_url, KEY, ca, lambda _: "no master" in events(said), said)
                    assert "certificate" in reason
                    assert "master.ca" in reason

    async def test_a_certificate_for_somebody_else(self, data: Path, ours: Authority, pair: tuple[Path, Path]) -> None:
        with logs() as said:
            async with running(data, **files(pair)) as master:
                url = master.secure_url.replace("localhost", "127.0.0.2")
                (reason, *_) = await works(url, KEY, ours.ca, lambda _: "no master" in events(said), said)
        assert reason.startswith(f"wss://127.0.0.2:{master.port}: ")

    async def test_plain_text_finds_no_one(self, data: Path, pair: tuple[Path, Path]) -> None:
        with logs() as said:
            async with running(data, **files(pair)) as master:
                (reason, *_) = await works(master.url, KEY, None, lambda _: "no master" in events(said), said)
        assert reason.startswith(master.url)

    def test_older_versions_are_refused(self, ours: Authority, pair: tuple[Path, Path]) -> None:
        for context in (Certificate(*pair).context, trusting(None), trusting(ours.ca)):
            assert context.minimum_version == ssl.TLSVersion.TLSv1_2


class TestRenewal:
    async def test_told_to_the_master_shows_the_new_one_and_sessions_stay(self, data: Path, ours: Authority) -> None:
        cert, key = ours.certify("before")
        hangup = asyncio.Event()
        async with running(data, hangup=hangup, **files((cert, key))) as master, secure(master, ours.ca) as socket:
            one = Collector(socket)
            await one.log_in()
            assert common_name(socket) == "before"
            for made, place in zip(ours.certify("after"), (cert, key), strict=True):
                place.write_bytes(made.read_bytes())
            assert await shown(master, ours.ca) == "before"
            with logs() as said:
                hangup.set()
                await until(lambda: "certificate read" in events(said))
            assert await shown(master, ours.ca) == "after"
            assert await one.hello(STREAM) == {STREAM: 0}

    async def test_half_of_a_renewal_changes_nothing(self, data: Path, ours: Authority) -> None:
        cert, key = ours.certify("whole")
        hangup = asyncio.Event()
        async with running(data, hangup=hangup, **files((cert, key))) as master:
            cert.write_bytes(ours.certify("half")[0].read_bytes())
            with logs() as said:
                hangup.set()
                await until(lambda: "cannot renew the certificate; it stays as it was before" in events(said))
            assert await shown(master, ours.ca) == "whole"


class TestStart:
    @pytest.mark.parametrize("present", ["tls_cert", "tls_key"])
    async def test_one_file_is_of_no_use(self, data: Path, pair: tuple[Path, Path], present: str) -> None:
        with pytest.raises(ConfigError, match="the one is of no use without the other"):
            await start(data, **{present: files(pair)[present]})

    async def test_files_that_are_none(self, data: Path, tmp_path: Path, pair: tuple[Path, Path], ours: Authority) -> None:
        (tmp_path / "empty").touch()
        encrypted = tmp_path / "encrypted.key"
        openssl("ec", "-in", pair[1], "-aes256", "-passout", "pass:secret", "-out", encrypted)
        for wrong in (
            (tmp_path / "none", pair[1]),
            (tmp_path / "empty", pair[1]),
            (pair[0], ours.certify("other")[1]),
            (pair[0], encrypted),
        ):
            with pytest.raises(ConfigError, match=r"server\.tls_cert, server\.tls_key: "):
                await start(data, **files(wrong))
        assert not data.exists()

    async def test_other_machines_are_not_served_in_plain_text_unasked(self, data: Path, pair: tuple[Path, Path]) -> None:
        with pytest.raises(ConfigError) as caught:
            await start(data, host="0.0.0.0")
        (line,) = caught.value.lines
        assert line.startswith("server.host: 0.0.0.0")
        assert all(key in line for key in ("server.tls_cert", "server.tls_key", "server.allow_plaintext"))
        for permitted in (files(pair), {"allow_plaintext": True}):
            with pytest.raises(StartError, match="cannot be listened on"):
                await start(data, host="192.0.2.1", **permitted)

    def test_an_authority_that_is_none(self, tmp_path: Path) -> None:
        for file in (tmp_path / "none", tmp_path):
            with pytest.raises(TlsError, match=str(file)):
                trusting(file)

    def test_a_renewal_is_read_apart_first(self, pair: tuple[Path, Path], tmp_path: Path) -> None:
        cert = tmp_path / "cert.pem"
        cert.write_bytes(pair[0].read_bytes())
        certificate = Certificate(cert, pair[1])
        before = certificate.context
        cert.write_text("nothing")
        with pytest.raises(TlsError):
            certificate.renew()
        assert certificate.context is before


@pytest.mark.parametrize(
    ("host", "is_so"),
    [
        *((here, True) for here in ("127.0.0.1", "127.8.9.1", "::1", "localhost", "::ffff:127.0.0.1")),
        *((not_here, False) for not_here in ("", "0.0.0.0", "::", "10.0.0.1", "example.org", "localhost.example.org")),
    ],
)
def test_what_is_this_machine_alone(host: str, is_so: bool) -> None:
    assert is_loopback(host) is is_so
