"""A port for servers that end and come back."""

import socket
import sys
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def kept_port() -> Iterator[int]:
    """A port of the loopback that the system gives to nobody else meanwhile, also while no server is there.

    Linux lets a server listen where a socket is bound that does not (both with SO_REUSEADDR, ip(7)), and gives such a port
    neither to who binds 0 nor to who connects. Elsewhere the port is merely free at first.
    """
    with socket.socket() as keeper:
        keeper.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        keeper.bind(("127.0.0.1", 0))
        port: int = keeper.getsockname()[1]
        if sys.platform != "linux":
            keeper.close()
        yield port
