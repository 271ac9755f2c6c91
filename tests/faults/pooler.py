"""A stand-in for PgBouncer where connections begin: it refuses `options`, or leaves them out.

The rest is passed on as it comes: a connection to it is one to the server.
"""

from __future__ import annotations

import socket
import struct
import threading
from contextlib import ExitStack, contextmanager, suppress
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from tests.faults.wire import GSS_REQUEST, SSL_REQUEST

if TYPE_CHECKING:
    from collections.abc import Iterator

REFUSAL = "unsupported startup parameter: options"
SECONDS = 60.0


@contextmanager
def pooler(url: str, *, refuses: bool) -> Iterator[str]:
    """The URL of the same database through it; `refuses` False: as ignore_startup_parameters."""
    server = urlsplit(url)
    assert server.hostname is not None
    address = (server.hostname, server.port or 5432)
    with ExitStack() as stack, socket.create_server(("127.0.0.1", 0)) as listener:

        def accept() -> None:
            with suppress(OSError):
                while True:
                    client = stack.enter_context(listener.accept()[0])
                    threading.Thread(
                        target=_serve, args=(client, address, refuses), daemon=True
                    ).start()

        threading.Thread(target=accept, daemon=True).start()
        netloc = f"{server.username}:{server.password}@127.0.0.1:{listener.getsockname()[1]}"
        try:
            yield server._replace(netloc=netloc).geturl()
        finally:
            with suppress(OSError):
                listener.shutdown(socket.SHUT_RDWR)


def _serve(client: socket.socket, address: tuple[str, int], refuses: bool) -> None:
    with suppress(OSError):
        version, words = _first_message(client)
        if "options" in words[::2] and refuses:
            fields = f"SFATAL\0C08P01\0M{REFUSAL}\0\0".encode()
            client.sendall(b"E" + struct.pack("!I", len(fields) + 4) + fields)
            client.close()
            return
        kept = [
            word
            for name, value in zip(words[::2], words[1::2], strict=True)
            if name != "options"
            for word in (name, value)
        ]
        body = struct.pack("!I", version) + "\0".join((*kept, "", "")).encode()
        with socket.create_connection(address, timeout=SECONDS) as server:
            server.sendall(struct.pack("!I", len(body) + 4) + body)
            threading.Thread(target=_pass_on, args=(server, client), daemon=True).start()
            _pass_on(client, server)


def _first_message(client: socket.socket) -> tuple[int, list[str]]:
    """The protocol's version, and names and values in turn."""
    while True:
        length, code = struct.unpack("!II", client.recv(8, socket.MSG_WAITALL))
        if code not in (SSL_REQUEST, GSS_REQUEST):
            rest = client.recv(length - 8, socket.MSG_WAITALL)
            return code, rest.decode().rstrip("\0").split("\0")
        client.sendall(b"N")


def _pass_on(source: socket.socket, target: socket.socket) -> None:
    with suppress(OSError):
        while got := source.recv(1 << 16):
            target.sendall(got)
        target.shutdown(socket.SHUT_WR)
