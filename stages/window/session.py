"""One open page: its wishes come in, its pictures go out."""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import json
import struct
import time
from concurrent.futures import Executor
from typing import Any

import torch
from fastapi import WebSocket, WebSocketDisconnect

from stages.errors import RadnerfError
from stages.vision.images import encode_jpeg
from stages.window.controls import Controls, read_controls
from stages.window.director import Director, Order
from stages.window.puppet import Moment, Puppet
from stages.window.speeches import Library

_QUALITY, _FINAL_QUALITY = 85, 93
_MOST_TEXT = 4096


class Session:
    """Serves one page until it is closed."""

    def __init__(self, puppet: Puppet, library: Library, artist: Executor, still_px: int) -> None:
        """Have nothing to draw yet.

        Args:
            puppet: The subject.
            library: Its speeches.
            artist: One thread, in which everything is drawn.
            still_px: Side of pictures that rest.
        """
        self._puppet, self._library, self._artist = puppet, library, artist
        self._director = Director(still_px)
        self._endless = puppet.endless()
        self._controls = Controls()
        self._heard = asyncio.Event()
        self._rehearsals: dict[int, asyncio.Task[None]] = {}

    async def run(self, socket: WebSocket) -> None:
        """Talk to the page.

        Args:
            socket: Accepted already.
        """
        tasks = [asyncio.create_task(self._listen(socket)), asyncio.create_task(self._show(socket))]
        try:
            done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
            for task in done:
                task.result()
        except WebSocketDisconnect:
            pass
        finally:
            for task in (*tasks, *self._rehearsals.values()):
                task.cancel()
            await asyncio.gather(*tasks, *self._rehearsals.values(), return_exceptions=True)

    async def _listen(self, socket: WebSocket) -> None:
        while True:
            try:
                message = _object(await socket.receive_text())
                if message.get("kind") == "shown":
                    self._director.shown(int(message["number"]), float(message["time"]), time.monotonic())
                else:
                    self._want(read_controls(message), socket)
            except (RadnerfError, ValueError, KeyError, TypeError) as error:
                await socket.send_text(json.dumps({"problem": str(error)}))
            self._heard.set()

    def _want(self, controls: Controls, socket: WebSocket) -> None:
        number = controls.speech
        if number != self._controls.speech and number is not None and number not in self._rehearsals:
            self._rehearsals[number] = asyncio.create_task(self._rehearse(number, socket))
        self._controls = controls
        self._director.want(controls, time.monotonic(), speech_ready=self._library.ready(number) is not None)

    async def _rehearse(self, number: int, socket: WebSocket) -> None:
        """Hear a speech beside drawing, then tell the page."""
        answer: dict[str, Any] = {"speech": number}
        try:
            speech = await asyncio.to_thread(self._library.rehearse, number)
            answer |= {"frames": speech.frames, "seconds": speech.seconds}
        except RadnerfError as error:
            answer["problem"] = str(error)
        with contextlib.suppress(WebSocketDisconnect, RuntimeError):
            await socket.send_text(json.dumps(answer))
        # So that choosing it again says it again.
        del self._rehearsals[number]

    async def _show(self, socket: WebSocket) -> None:
        loop = asyncio.get_running_loop()
        while True:
            self._heard.clear()
            order = self._director.next(time.monotonic())
            if isinstance(order, Order):
                began = time.monotonic()
                picture = await loop.run_in_executor(self._artist, self._draw, order)
                self._director.took(order, time.monotonic() - began)
                await socket.send_bytes(picture)
                continue
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._heard.wait(), order)

    @torch.no_grad()
    def _draw(self, order: Order) -> bytes:
        """A picture as it goes over the wire: its header's length, its header in JSON, JPEG."""
        began = time.perf_counter()
        picture, turned = self._puppet.draw(
            self._moment(order), order.controls.turn_deg, order.size_px, order.controls.background
        )
        data = encode_jpeg(picture, _FINAL_QUALITY if order.final else _QUALITY)
        head = {
            "number": order.number,
            "frame": order.frame if order.frame is not None else order.idle_frame,
            "size": order.size_px,
            "moving": order.moving,
            "final": order.final,
            "turn": [round(value, 2) for value in turned],
            "wanted": list(order.controls.turn_deg),
            "ms": round(1000 * (time.perf_counter() - began), 1),
        }
        text = json.dumps(head).encode()
        return struct.pack(">I", len(text)) + text + data

    def _moment(self, order: Order) -> Moment:
        while self._endless.frame < order.idle_frame:
            self._endless.advance(0.0)
        speech = self._library.ready(order.controls.speech)
        if speech is not None and order.frame is not None:
            moment = speech.moment(order.frame)
        else:
            moment = self._puppet.resting(self._endless)
        if order.controls.eyes is not None:
            moment = dataclasses.replace(moment, eye=order.controls.eyes)
        if order.controls.mouth is not None:
            code, mouth = self._puppet.gape.at(order.controls.mouth)
            moment = dataclasses.replace(moment, code=code, mouth=mouth)
        return moment


def _object(text: str) -> dict[str, Any]:
    """A message's JSON object.

    Raises:
        ValueError: It is no JSON, or is far too long.
        TypeError: It is no object.
    """
    if len(text) > _MOST_TEXT:
        raise ValueError("the message is too long")
    value = json.loads(text)
    if not isinstance(value, dict):
        raise TypeError("the message is no object")
    return value
