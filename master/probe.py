"""Asks a program that runs on this machine how it is: here the master, in collector/status.py the collector.

With the standard library alone: a container is probed every few seconds, and to load and check the whole configuration would
cost several times as much as the question.
"""

import json
import os
import ssl
from http import HTTPStatus
from http.client import HTTPConnection, HTTPException, HTTPSConnection
from pathlib import Path
from typing import Any

ANSWER_WITHIN = 5.0
_HERE = {"": "127.0.0.1", "0.0.0.0": "127.0.0.1", "::": "::1"}  # noqa: S104 (all of a machine's addresses, seen from itself)


class ProbeError(Exception):
    """Nobody answers, or not as the program would, and what to look at."""


class Section:
    """One section of config.json, unchecked; the environment goes before the file, as in the program's own settings."""

    def __init__(self, config: Path, name: str) -> None:
        """Raises ProbeError where there is no such file."""
        self._name = name
        try:
            content = json.loads(config.read_bytes())
        except OSError as error:
            raise ProbeError(f"{config}: {error.strerror}; --config names the file") from error
        except ValueError:
            content = None  # somebody is writing it: no reason to call the program dead that has read it before
        section = content.get(name) if isinstance(content, dict) else None
        self._content = section if isinstance(section, dict) else {}

    def get(self, key: str, default: str) -> str:
        found = os.environ.get(f"COLLECTOR_{self._name}__{key}".upper(), self._content.get(key))
        return default if found is None else str(found)


def health(config: Path, data: Path | None, *, ready: bool) -> tuple[int, str]:
    """Exit code and a line for it. 0: the master of this data runs and answers; where `ready` is asked: it can also store, and
    answer questions."""
    try:
        server = Section(config, "server")
        certificate = server.get("tls_cert", "")
        status, answer = ask(
            server.get("host", "127.0.0.1"),
            _port(data or Path(server.get("data", "data"))),
            "/health/ready" if ready else "/health/live",
            Path(certificate) if certificate else None,
        )
    except ProbeError as error:
        return 1, f"not up: {error}"
    if status == HTTPStatus.OK:
        return 0, "ok"
    return 1, f"not ready: {answer.get('detail', HTTPStatus(status).phrase)}; {answer.get('change', 'see its log')}"


def _port(data: Path) -> int:
    """Where the master says that it answers. Raises ProbeError."""
    announced = data / "master.json"
    try:
        return int(json.loads(announced.read_bytes())["http_port"])
    except OSError as error:
        raise ProbeError(f"no master runs on {data} ({announced}: {error.strerror})") from error


def ask(host: str, port: int, path: str, certificate: Path | None = None) -> tuple[int, Any]:
    """HTTP status and JSON body of `path`. `certificate`: the one that must be shown over TLS. Raises ProbeError."""
    address = (_HERE.get(host, host), port)
    connection = (
        HTTPConnection(*address, timeout=ANSWER_WITHIN)
        if certificate is None
        else HTTPSConnection(*address, timeout=ANSWER_WITHIN, context=_only(certificate))
    )
    try:
        connection.request("GET", path)
        response = connection.getresponse()
        return response.status, json.loads(response.read())
    except (OSError, HTTPException, ValueError) as error:
        raise ProbeError(f"no answer at {address[0]}:{port} ({str(error) or type(error).__name__})") from error
    finally:
        connection.close()


def _only(certificate: Path) -> ssl.SSLContext:
    """Believes this certificate, whatever name it is for: the master is asked by its address. Raises ProbeError."""
    try:
        context = ssl.create_default_context(cafile=certificate)
    except OSError as error:
        raise ProbeError(f"{certificate}: {error.strerror or error}") from error
    context.check_hostname = False
    context.verify_flags |= ssl.VERIFY_X509_PARTIAL_CHAIN
    return context
