"""A server in a thread, for the provider of the demo and for tests."""

from __future__ import annotations

import socket
import threading
from types import TracebackType
from typing import Any, Self

import uvicorn
from starlette.types import ASGIApp

__all__ = ["ThreadedServer"]


class ThreadedServer:
    """Context manager that serves an application on a port of the loopback address.

    ``http`` is the protocol of ``uvicorn.Config``.
    """

    def __init__(self, app: ASGIApp, port: int = 0, http: Any = "auto") -> None:
        self._socket = _listening_socket(port)
        self.url = f"http://127.0.0.1:{self._socket.getsockname()[1]}"
        # Streams that are still open at exit are closed after 1 s.
        self._server = _Server(
            uvicorn.Config(app, log_level="error", lifespan="on", timeout_graceful_shutdown=1, http=http, ws="none")
        )
        self._thread = threading.Thread(target=self._run, daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        self._server.ready.wait()
        if not self._server.started:
            raise RuntimeError("the server did not start")
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._server.should_exit = True
        self._thread.join()
        self._socket.close()

    def _run(self) -> None:
        try:
            self._server.run([self._socket])
        finally:
            self._server.ready.set()  # the server may fail before the end of its startup


class _Server(uvicorn.Server):
    """A server that signals the end of its startup, successful or not."""

    def __init__(self, config: uvicorn.Config) -> None:
        super().__init__(config)
        self.ready = threading.Event()

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        self.ready.set()


def _listening_socket(port: int) -> socket.socket:
    """Return a socket that listens on a port of the loopback address; 0 is any free port.

    asyncio sets TCP_NODELAY only on sockets whose protocol is given. ``socket.create_server`` leaves it at 0, and
    accepted sockets inherit that. Without TCP_NODELAY, an answer sent in two writes waits for a delayed ACK: 40 ms.
    """
    listener = socket.socket(socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(("127.0.0.1", port))
        listener.listen(512)
    except OSError:
        listener.close()
        raise
    return listener
