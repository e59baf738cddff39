"""The window's server: an application on a loopback port, behind its guard, until somebody ends it."""

from __future__ import annotations

import asyncio
import contextlib
import importlib.util
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from stages.errors import BadInput, RadnerfError
from stages.window.guard import App, Guard, new_token

NEEDS = ("fastapi", "uvicorn", "websockets")
"""Packages of the extra ``window``."""

_LARGEST_MESSAGE_BYTES = 1 << 20
_ENDS_WITHIN_S = 3


def check_packages() -> None:
    """Raise where the extra ``window`` is not installed.

    Raises:
        RadnerfError: A package of it is missing.
    """
    missing = [name for name in NEEDS if importlib.util.find_spec(name) is None]
    if missing:
        raise RadnerfError(f"the window needs {' and '.join(missing)}", hint="pip install 'radnerf[window]'")


@dataclass(frozen=True)
class Door:
    """A port that is taken and a token.

    Attributes:
        listener: The socket, bound to 127.0.0.1.
        token: The first part of every path.
    """

    listener: socket.socket
    token: str

    @property
    def port(self) -> int:
        """The port's number."""
        return int(self.listener.getsockname()[1])

    @property
    def address(self) -> str:
        """What is typed into a browser; whoever knows it may look."""
        return f"http://127.0.0.1:{self.port}/{self.token}/"


@contextmanager
def open_door(port: int) -> Iterator[Door]:
    """Take a port of the loopback interface.

    Args:
        port: Its number; 0 for any free one.

    Raises:
        BadInput: It is taken, or not ours to take.
    """
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as listener:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            listener.bind(("127.0.0.1", port))
            # From now on, whoever comes too early waits.
            listener.listen()
        except (OSError, OverflowError) as error:
            raise BadInput(
                f"port {port} cannot be used: {error}", hint="give another --port, or 0 for a free one"
            ) from error
        yield Door(listener, new_token())


@contextmanager
def serving(app: App, door: Door) -> Iterator[threading.Event]:
    """Serve an application in a thread of its own while the block runs.

    Args:
        app: Any ASGI application.
        door: Where.

    Yields:
        An event that is set if the server ends by itself.
    """
    import uvicorn

    config = uvicorn.Config(
        Guard(app, door.token, door.port),
        log_config=None,
        access_log=False,
        lifespan="off",
        server_header=False,
        ws_max_size=_LARGEST_MESSAGE_BYTES,
        ws_per_message_deflate=False,
        timeout_graceful_shutdown=_ENDS_WITHIN_S,
    )
    server = uvicorn.Server(config)
    ended = threading.Event()

    def serve() -> None:
        try:
            with contextlib.suppress(KeyboardInterrupt):
                asyncio.run(server.serve(sockets=[door.listener]))
        finally:
            ended.set()

    thread = threading.Thread(target=serve, name="radnerf-window", daemon=True)
    thread.start()
    try:
        yield ended
    finally:
        server.should_exit = True
        thread.join(_ENDS_WITHIN_S + 5)
