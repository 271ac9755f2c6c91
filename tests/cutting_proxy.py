"""A TCP proxy before PostgreSQL that lets a COMMIT through and cuts the link before its answer."""

from __future__ import annotations

import socket
import threading
from typing import TYPE_CHECKING, Self
from urllib.parse import urlsplit

if TYPE_CHECKING:
    from types import TracebackType


class CuttingProxy:
    """Forwards to the server of `url`; `cut_commits` says how many COMMITs of an UPDATE are cut."""

    def __init__(self, url: str, *, cut_commits: int) -> None:
        parts = urlsplit(url)
        assert parts.hostname is not None
        assert parts.port is not None
        self._server = (parts.hostname, parts.port)
        self._left = cut_commits
        self._listener = socket.create_server(("127.0.0.1", 0))
        self._open: list[socket.socket] = []
        port = self._listener.getsockname()[1]
        self.url = url.replace(f"{parts.hostname}:{parts.port}", f"127.0.0.1:{port}")
        self.cuts = 0

    def __enter__(self) -> Self:
        threading.Thread(target=self._accept, daemon=True).start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        _shut(self._listener)  # ends the waiting accept(), which a close alone would not
        self._listener.close()
        for end in self._open:
            end.close()

    def _accept(self) -> None:
        while True:
            try:
                client, _ = self._listener.accept()
            except OSError:
                return
            threading.Thread(target=self._serve, args=(client,), daemon=True).start()

    def _serve(self, client: socket.socket) -> None:
        server = socket.create_connection(self._server)
        self._open += [client, server]
        committing = threading.Event()
        threading.Thread(target=self._answers, args=(server, client, committing)).start()
        updated = False
        while piece := _received(client):
            updated = updated or b"UPDATE " in piece
            if updated and b"COMMIT" in piece and self._left > 0:
                self._left -= 1
                committing.set()
            if not _sent(server, piece):
                break
        _shut(server)

    def _answers(
        self, server: socket.socket, client: socket.socket, committing: threading.Event
    ) -> None:
        while piece := _received(server):
            if committing.is_set():
                # The server has committed, and nobody will ever hear of it.
                self.cuts += 1
                break
            if not _sent(client, piece):
                break
        _shut(client)
        _shut(server)


def _received(end: socket.socket) -> bytes:
    try:
        return end.recv(65536)
    except OSError:
        return b""


def _sent(end: socket.socket, piece: bytes) -> bool:
    try:
        end.sendall(piece)
    except OSError:
        return False
    return True


def _shut(end: socket.socket) -> None:
    try:
        end.shutdown(socket.SHUT_RDWR)
    except OSError:
        return
