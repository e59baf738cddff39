"""What the window's server answers when a subject is looked at."""

from __future__ import annotations

import asyncio
from concurrent.futures import Executor

from fastapi import FastAPI, Request, WebSocket
from fastapi.responses import FileResponse, HTMLResponse, JSONResponse, Response

from radnerf.facing import BEYOND_DEG
from stages.errors import BadInput
from stages.window.page import Page, fill
from stages.window.puppet import Puppet
from stages.window.session import Session
from stages.window.speeches import Library

LARGEST_PICTURE_BYTES = 20_000_000
"""Backgrounds larger than this are refused."""

_SIZES = (96, 128, 192, 256, 384, 512)


def view_app(puppet: Puppet, library: Library, artist: Executor, size_px: int, consent: str, port: int) -> FastAPI:
    """The application.

    Args:
        puppet: The subject.
        library: Its speeches.
        artist: One thread, in which everything is drawn.
        size_px: The largest picture; 0 for twice the trained size, 512 at most.
        consent: The note of the subject's maker; may be empty.
        port: Of the server.
    """
    app = FastAPI(docs_url=None, redoc_url=None, openapi_url=None)
    still_px = size_px or min(2 * puppet.portrait.size_px, 512)
    name, trained_px = puppet.portrait.name, puppet.portrait.size_px
    about = f"a portrait trained at {trained_px} × {trained_px}"
    html, policy = fill(Page("view", name, about, consent, _told(puppet, library, size_px)), port)

    @app.get("/")
    async def page() -> HTMLResponse:
        return HTMLResponse(html, headers={"content-security-policy": policy})

    @app.get("/sound/{number}")
    async def sound(number: int) -> Response:
        speech = library.ready(number)
        if speech is None:
            return JSONResponse({"problem": f"speech {number} was not heard yet"}, 404)
        return FileResponse(speech.sound, media_type="audio/wav")

    @app.post("/background")
    async def background(request: Request) -> Response:
        data = bytearray()
        async for piece in request.stream():
            data += piece
            if len(data) > LARGEST_PICTURE_BYTES:
                return JSONResponse({"problem": f"the picture has more than {LARGEST_PICTURE_BYTES // 10**6} MB"}, 413)
        try:
            await asyncio.get_running_loop().run_in_executor(artist, puppet.set_picture, bytes(data))
        except BadInput as error:
            return JSONResponse({"problem": str(error)}, 400)
        return JSONResponse({})

    @app.websocket("/frames")
    async def frames(socket: WebSocket) -> None:
        await socket.accept()
        await Session(puppet, library, artist, still_px).run(socket)

    return app


def _told(puppet: Puppet, library: Library, size_px: int) -> dict[str, object]:
    """What the page's script must know of the subject."""
    yaw, pitch = puppet.resting_facing_deg()
    limits, seen = puppet.limits, puppet.seen
    return {
        "yaw": [round(limits.yaw_deg[0] - yaw, 1), round(limits.yaw_deg[1] - yaw, 1)],
        "pitch": [round(limits.pitch_deg[0] - pitch, 1), round(limits.pitch_deg[1] - pitch, 1)],
        "seen": {"yaw": seen.yaw_deg, "pitch": seen.pitch_deg},
        "beyond": BEYOND_DEG,
        "mouth": puppet.opens,
        "speeches": [entry.name for entry in library.entries],
        "sizes": sorted({*_SIZES, *([size_px] if size_px else [])}),
        "size": size_px,
    }
