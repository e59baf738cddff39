"""Who may talk to the window's server: pages of this very address that know its token, and nobody else.

A server on the loopback interface is reached by every program of this machine and, through its browser, by every page
that is open in it. The token keeps out whoever does not know the address. The ``Host`` header keeps out a strange name
that was made to mean 127.0.0.1 (DNS rebinding); ``Origin`` and ``Sec-Fetch-Site`` keep out pages of other addresses,
also for WebSockets, which no same-origin policy covers.
"""

from __future__ import annotations

import secrets
from collections.abc import Awaitable, Callable, Iterable, MutableMapping
from typing import Any

Scope = MutableMapping[str, Any]
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
App = Callable[[Scope, Receive, Send], Awaitable[None]]

_HEADERS = (
    (b"cache-control", b"no-store"),
    (b"cross-origin-opener-policy", b"same-origin"),
    (b"cross-origin-resource-policy", b"same-origin"),
    (b"referrer-policy", b"no-referrer"),
    (b"x-content-type-options", b"nosniff"),
    (b"x-frame-options", b"DENY"),
)
_POLICY_VIOLATION = 1008


def new_token() -> str:
    """A token that nobody guesses: 192 bits."""
    return secrets.token_urlsafe(24)


class Guard:
    """Lets through what may enter; the token's part of the path is taken off for whoever is behind."""

    def __init__(self, app: App, token: str, port: int) -> None:
        """Stand before an application.

        Args:
            app: Any ASGI application.
            token: The first part of every path.
            port: That the server listens on.
        """
        self._app, self._token = app, token.encode()
        self._hosts = frozenset(f"{name}:{port}".encode() for name in ("127.0.0.1", "localhost"))
        self._origins = frozenset(b"http://" + host for host in self._hosts)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass a request on, or refuse it."""
        if scope["type"] not in ("http", "websocket"):
            await self._app(scope, receive, send)
            return
        rest = self._rest(str(scope.get("path", "")))
        if rest is None or not self._from_here(scope.get("headers", ())):
            await _refuse(scope, send)
            return

        async def send_marked(message: Message) -> None:
            if message["type"] == "http.response.start":
                message = {**message, "headers": [*message.get("headers", ()), *_HEADERS]}
            await send(message)

        await self._app({**scope, "path": rest, "raw_path": rest.encode()}, receive, send_marked)

    def _rest(self, path: str) -> str | None:
        """What follows the token; None where that is wrong."""
        given, slash, rest = path.removeprefix("/").partition("/")
        known = secrets.compare_digest(given.encode("utf-8", "surrogateescape"), self._token)
        return "/" + rest if known and slash else None

    def _from_here(self, headers: Iterable[tuple[bytes, bytes]]) -> bool:
        """Whether the request was meant for this address and comes from one of its pages, or from no page."""
        hosts = origins = 0
        for name, value in headers:
            plain = value.strip().lower()
            if name == b"host":
                hosts += 1
                if plain not in self._hosts:
                    return False
            elif name == b"origin":
                origins += 1
                if plain not in self._origins:
                    return False
            elif name == b"sec-fetch-site" and plain not in (b"same-origin", b"none"):
                return False
        return hosts == 1 and origins <= 1


async def _refuse(scope: Scope, send: Send) -> None:
    """Say no, and nothing else."""
    if scope["type"] == "websocket":
        await send({"type": "websocket.close", "code": _POLICY_VIOLATION})
        return
    headers = [(b"content-type", b"text/plain"), (b"content-length", b"10"), *_HEADERS]
    await send({"type": "http.response.start", "status": 403, "headers": headers})
    await send({"type": "http.response.body", "body": b"forbidden\n"})
