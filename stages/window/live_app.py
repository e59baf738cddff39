"""What the window's server answers while a subject speaks live."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable

from fastapi import FastAPI, WebSocket, WebSocketDisconnect
from fastapi.responses import HTMLResponse, Response

from stages.window.broadcast import Broadcast, Listener
from stages.window.page import Page, fill, script


def live_app(
    broadcast: Broadcast, speak: Callable[[bytes], None] | None, name: str, consent: str, port: int
) -> FastAPI:
    """The application.

    Args:
        broadcast: What is shown.
        speak: Takes sound that comes by the WebSocket ``speak``; waits where it must. None where sound comes
            from elsewhere.
        name: Of the subject.
        consent: The note of its maker; may be empty.
        port: Of the server.
    """
    app = FastAPI(docs_url=None, redoc_url=None, openapi_url=None)
    html, policy = fill(Page("live", name, "live", consent, {"speak": speak is not None}), port)

    @app.get("/")
    async def page() -> HTMLResponse:
        return HTMLResponse(html, headers={"content-security-policy": policy})

    @app.get("/microphone.js")
    async def microphone() -> Response:
        return Response(script("microphone"), media_type="text/javascript")

    @app.websocket("/watch")
    async def watch(socket: WebSocket) -> None:
        await socket.accept()
        with broadcast.listening(asyncio.get_running_loop()) as listener:
            await _send_all(socket, listener)

    @app.websocket("/speak")
    async def hear(socket: WebSocket) -> None:
        if speak is None:
            await socket.close(1008)
            return
        await socket.accept()
        with contextlib.suppress(WebSocketDisconnect, KeyError):
            while True:
                data = await socket.receive_bytes()
                await asyncio.to_thread(speak, data)

    return app


async def _send_all(socket: WebSocket, listener: Listener) -> None:
    """Send until the page goes away."""

    async def send() -> None:
        while not listener.gone:
            await socket.send_bytes(await listener.take())

    # A page that was closed is noticed by listening to it, also while there is nothing to send.
    async def notice() -> None:
        while True:
            await socket.receive_text()

    tasks = [asyncio.create_task(send()), asyncio.create_task(notice())]
    try:
        await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
