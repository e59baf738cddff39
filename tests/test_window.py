"""The window without a browser: who may enter, what is drawn next, and what its controls change."""

from __future__ import annotations

import asyncio
import http.client
import itertools
import json
import urllib.request
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import radnerf
from stages.errors import BadInput, RadnerfError
from stages.vision.images import encode_png
from stages.window.controls import CLIP, PICTURE, Controls, read_controls
from stages.window.director import IN_FLIGHT, Director, Order
from stages.window.guard import Guard, Message, Scope
from stages.window.pace import Pace
from stages.window.puppet import Puppet
from stages.window.server import Door, check_packages, open_door, serving
from stages.window.speeches import Library, list_speeches
from tests.live_subject import make_live_subject, speech_like, write_sound
from tests.tiny_subject import SIZE_PX

FRONTAL = torch.diag(torch.tensor([1.0, -1.0, -1.0]))


def ask(headers: list[tuple[bytes, bytes]], path: str, kind: str = "http") -> tuple[str, list[Message]]:
    """What a guarded application was asked, and what was answered."""
    asked: list[str] = []
    answers: list[Message] = []

    async def app(scope: Scope, _: Any, send: Any) -> None:
        asked.append(scope["path"])
        await send({"type": "http.response.start", "status": 200, "headers": []})

    async def send(message: Message) -> None:
        answers.append(message)

    guard = Guard(app, "secret", 8000)
    asyncio.run(guard({"type": kind, "path": path, "headers": headers}, None, send))  # type: ignore[arg-type]
    return (asked or [""])[0], answers


HOST = (b"host", b"127.0.0.1:8000")


@pytest.mark.parametrize("kind", ["http", "websocket"])
@pytest.mark.parametrize(
    ("headers", "path"),
    [
        ([HOST], "/wrong/frames"),
        ([HOST], "/"),
        ([HOST], "/secret"),
        ([HOST], "/secrets/frames"),
        ([], "/secret/frames"),
        ([HOST, HOST], "/secret/frames"),
        ([(b"host", b"evil.example:8000")], "/secret/frames"),
        ([(b"host", b"127.0.0.1:8001")], "/secret/frames"),
        ([(b"host", b"127.0.0.1")], "/secret/frames"),
        ([HOST, (b"origin", b"http://evil.example")], "/secret/frames"),
        ([HOST, (b"origin", b"http://127.0.0.1:8001")], "/secret/frames"),
        ([HOST, (b"origin", b"null")], "/secret/frames"),
        ([HOST, (b"sec-fetch-site", b"cross-site")], "/secret/frames"),
        ([HOST, (b"sec-fetch-site", b"same-site")], "/secret/frames"),
    ],
)
def test_nobody_else_enters(headers: list[tuple[bytes, bytes]], path: str, kind: str) -> None:
    asked, answers = ask(headers, path, kind)
    assert asked == ""
    assert answers[0]["type"] == ("websocket.close" if kind == "websocket" else "http.response.start")
    assert answers[0].get("status", 403) == 403


@pytest.mark.parametrize(
    "headers",
    [
        [HOST],
        [(b"host", b"localhost:8000"), (b"origin", b"http://localhost:8000")],
        [HOST, (b"origin", b"http://127.0.0.1:8000"), (b"sec-fetch-site", b"same-origin")],
        [HOST, (b"sec-fetch-site", b"none")],
    ],
)
def test_who_knows_the_address_enters(headers: list[tuple[bytes, bytes]]) -> None:
    asked, answers = ask(headers, "/secret/sound/3")
    assert asked == "/sound/3"
    names = {name for name, _ in answers[0]["headers"]}
    assert {b"referrer-policy", b"x-content-type-options", b"cache-control"} <= names


def test_pictures_become_as_large_as_keeps_up() -> None:
    for ms_per_px, least, most in ((0.2e-3, 384, 1024), (2e-3, 160, 192), (200e-3, 64, 64)):
        pace = Pace(128, 1024)
        sizes = []
        for _ in range(60):
            size = pace.size_px()
            sizes.append(size)
            pace.took(size, ms_per_px * size**2)
        assert least <= sizes[-1] <= most
        assert sizes[-1] == 64 or pace.expected_ms(sizes[-1]) < 1000 / 12
        assert len(set(sizes[-20:])) == 1, "it does not go to and fro"


def drive(director: Director, now: float, milliseconds: float = 10.0) -> Order:
    """The order that a director gives at a time, done and shown."""
    order = director.next(now)
    assert isinstance(order, Order), order
    director.took(order, milliseconds / 1000)
    director.shown(order.number, order.controls.time_s, now)
    return order


def test_the_newest_wish_is_drawn_and_no_queue_of_them() -> None:
    director = Director(256)
    assert director.next(0.0) is None
    for index in range(50):
        director.want(Controls(turn_deg=(float(index), 0.0)), 0.001 * index, speech_ready=False)
    assert drive(director, 0.05).controls.turn_deg == (49.0, 0.0)
    left = director.next(0.06)
    assert isinstance(left, float)
    assert 0 < left < 0.3
    final = drive(director, 0.06 + left)
    assert (final.size_px, final.final) == (256, True)
    assert director.next(1.0) is None


def test_pictures_that_nobody_saw_hold_the_next_ones_back() -> None:
    director = Director(256)
    orders = []
    for index in range(5):
        director.want(Controls(turn_deg=(float(index), 0.0)), 0.1 * index, speech_ready=False)
        order = director.next(0.1 * index)
        if isinstance(order, Order):
            orders.append(order)
    assert len(orders) == IN_FLIGHT
    director.shown(orders[-1].number, 0.0, 1.0)
    newest = director.next(1.0)
    assert isinstance(newest, Order)
    assert newest.controls.turn_deg == (4.0, 0.0)


def test_a_played_speech_is_followed_by_its_sounds_clock() -> None:
    director = Director(256)
    director.want(Controls(speech=0, time_s=2.0, playing=True), 10.0, speech_ready=True)
    seen, now = [], 10.0
    for _ in range(40):
        step = director.next(now)
        if isinstance(step, Order):
            seen.append((now, step.frame))
            director.took(step, 0.02)
            # The sound runs a little slower than our clock.
            director.shown(step.number, 2.0 + 0.99 * (now - 10.0), now)
            now += 0.02
        else:
            now += float(step or 0.01)
    frames = [frame for _, frame in seen if frame is not None]
    assert len(frames) == len(seen)
    assert all(after > before for before, after in itertools.pairwise(frames)), "no picture is drawn twice"
    for at, frame in seen[1:]:
        assert abs(frame / 25 - (2.0 + 0.99 * (at - 10.0))) < 0.12
    assert all(order is None or isinstance(order, float) or not order.final for order in [director.next(now)])


def test_a_head_that_moves_by_itself_goes_on_from_where_it_stopped() -> None:
    director = Director(256)
    director.want(Controls(alive=True), 0.0, speech_ready=False)
    first = drive(director, 0.0)
    assert (first.idle_frame, first.moving) == (0, True)
    wait = director.next(0.01)
    assert isinstance(wait, float)
    assert wait == pytest.approx(0.03, abs=1e-3)
    assert drive(director, 0.405).idle_frame == 10
    director.want(Controls(alive=False), 0.41, speech_ready=False)
    assert drive(director, 0.42).idle_frame == 10
    director.want(Controls(alive=True), 100.0, speech_ready=False)
    assert drive(director, 100.0).idle_frame == 10
    assert drive(director, 100.05).idle_frame == 11


def test_a_chosen_size_is_the_most() -> None:
    director = Director(256)
    director.want(Controls(size_px=96), 0.0, speech_ready=False)
    assert drive(director, 0.0).final
    director.want(Controls(size_px=512), 1.0, speech_ready=False)
    first, final = drive(director, 1.0), drive(director, 2.0)
    assert first.size_px <= 192
    assert (final.size_px, final.final) == (512, True)


def test_controls_are_read_and_what_is_wrong_is_refused() -> None:
    assert read_controls({}) == Controls()
    told = {"yaw": 3, "pitch": -2.5, "eyes": 0.5, "mouth": 1, "background": "#204060", "size": 128, "alive": True,
            "speech": 0, "time": 1.5, "playing": True}  # fmt: skip
    assert read_controls(told) == Controls((3.0, -2.5), 0.5, 1.0, (0x20, 0x40, 0x60), 128, True, 0, 1.5, True)
    for key, value in (
        ("yaw", "3"), ("yaw", float("nan")), ("pitch", 1000), ("eyes", -1), ("mouth", True), ("background", 3),
        ("background", "nocolour"), ("size", 7), ("size", 1e3), ("alive", 1), ("speech", -1), ("speech", 1.0),
        ("time", float("inf")), ("playing", "yes"),
    ):  # fmt: skip
        with pytest.raises(BadInput):
            read_controls({**told, key: value})


@pytest.fixture(scope="module")
def puppet(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Puppet]:
    """A tiny subject on strings."""
    home = tmp_path_factory.mktemp("home")
    workspace = make_live_subject(home)
    with Puppet(radnerf.load(workspace.root, backend="reference", device="cpu")) as found:
        yield found


def test_what_the_window_shows_is_what_speak_renders(puppet: Puppet, tmp_path: Path) -> None:
    speech = write_sound(tmp_path / "hello.wav", speech_like(0.4))
    with Library(puppet, list_speeches(puppet.portrait.workspace, [speech])) as library:
        assert [entry.name for entry in library.entries] == ["hello.wav", "The clip’s own sound"]
        rehearsed = library.rehearse(0)
        assert library.ready(0) is rehearsed
        shown = [puppet.draw(rehearsed.moment(frame), (0.0, 0.0), SIZE_PX)[0] for frame in range(rehearsed.frames)]
        rendered = np.stack(list(puppet.portrait.frames(speech)))
        assert np.abs(np.stack(shown).astype(int) - rendered).max() <= 1
        assert rehearsed.sound.stat().st_size == 44 + 2 * 32_000 * rehearsed.frames // 25
        with pytest.raises(BadInput):
            library.rehearse(5)


def test_eyes_mouth_turn_and_background_change_the_picture(puppet: Puppet) -> None:
    import dataclasses

    assert puppet.opens
    rest = puppet.resting(puppet.endless())
    code, mouth = puppet.gape.at(1.0)
    plain, _ = puppet.draw(rest, (0.0, 0.0), 64)
    others = {
        "eyes": puppet.draw(dataclasses.replace(rest, eye=0.0), (0.0, 0.0), 64)[0],
        "mouth": puppet.draw(dataclasses.replace(rest, code=code, mouth=mouth), (0.0, 0.0), 64)[0],
        "turn": puppet.draw(rest, (5.0, 0.0), 64)[0],
        "colour": puppet.draw(rest, (0.0, 0.0), 64, (255, 0, 0))[0],
    }
    for name, picture in others.items():
        assert not np.array_equal(picture, plain), name
    assert puppet.draw(rest, (90.0, 0.0), 64)[1][0] == pytest.approx(10, abs=3)
    before = puppet.draw(rest, (0.0, 0.0), 64, PICTURE)[0]
    np.testing.assert_array_equal(before, plain)
    puppet.set_picture(encode_png(np.full((20, 30, 3), (0, 255, 0), np.uint8)))
    green = puppet.draw(rest, (0.0, 0.0), 64, PICTURE)[0]
    assert green[0, 0, 1] > plain[0, 0, 1] + 100
    with pytest.raises(BadInput, match="no picture"):
        puppet.set_picture(b"no picture")
    np.testing.assert_array_equal(puppet.draw(rest, (0.0, 0.0), 64, PICTURE)[0], green)
    np.testing.assert_array_equal(puppet.draw(rest, (0.0, 0.0), 64, CLIP)[0], plain)


@pytest.fixture(scope="module")
def door(puppet: Puppet) -> Iterator[Door]:
    """A served window."""
    from stages.window.view_app import view_app

    with (
        open_door(0) as found,
        ThreadPoolExecutor(1) as artist,
        Library(puppet, []) as library,
        serving(view_app(puppet, library, artist, 0, "by </script> mail", found.port), found),
    ):
        yield found


def answer(door: Door, path: str, **headers: str) -> tuple[int, str]:
    """A status and a body."""
    connection = http.client.HTTPConnection("127.0.0.1", door.port, timeout=30)
    connection.request("GET", path, headers=headers)
    found = connection.getresponse()
    body = found.read().decode()
    connection.close()
    return found.status, body


def test_the_server_answers_its_own_page_and_nobody_else(door: Door) -> None:
    status, page = answer(door, f"/{door.token}/")
    assert status == 200
    assert page.count("</script>") == 2
    assert "by &lt;/script&gt; mail" in page
    assert "http" not in page.replace("http-equiv", "").split("<script")[0]
    for path, headers in (
        ("/", {}), (f"/{door.token[:-1]}/", {}), (f"/{door.token}/", {"Host": "evil.example"}),
        (f"/{door.token}/", {"Origin": "http://evil.example"}), ("/sound/0", {}),
    ):  # fmt: skip
        assert answer(door, path, **headers)[0] == 403, (path, headers)
    assert answer(door, f"/{door.token}/sound/0")[0] == 404


def test_sockets_of_other_pages_are_refused(door: Door) -> None:
    from websockets.exceptions import InvalidStatus
    from websockets.sync.client import connect

    address = door.address.replace("http", "ws")
    for url, origin in ((f"{address}frames", "http://evil.example"), (f"ws://127.0.0.1:{door.port}/no/frames", None)):
        with pytest.raises(InvalidStatus, match="403"):
            connect(url, origin=origin)  # type: ignore[arg-type]
    with connect(f"{address}frames") as socket:
        socket.send(json.dumps({"kind": "controls", "yaw": 90, "size": 32}))
        message = socket.recv(timeout=60)
        assert isinstance(message, bytes)
        length = int.from_bytes(message[:4], "big")
        head = json.loads(message[4 : 4 + length])
        assert message[4 + length :][:2] == b"\xff\xd8"
        assert head["size"] == 32
        assert head["turn"][0] < 30
        for bad in ("[]", "no json", '{"yaw": "x"}', '{"kind": "shown"}'):
            socket.send(bad)
            said = socket.recv(timeout=60)
            while isinstance(said, bytes):
                said = socket.recv(timeout=60)
            assert "problem" in json.loads(said)


def test_a_taken_port_and_missing_packages_are_said(door: Door, monkeypatch: pytest.MonkeyPatch) -> None:
    import importlib.util

    with pytest.raises(BadInput, match="cannot be used"), open_door(door.port):
        pass
    find = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name == "uvicorn" else find(name))
    with pytest.raises(RadnerfError, match="needs uvicorn") as caught:
        check_packages()
    assert "pip install" in caught.value.hint


def test_a_background_is_taken_and_a_bad_one_is_said(door: Door) -> None:
    def post(data: bytes) -> int:
        request = urllib.request.Request(f"{door.address}background", data, {"Origin": door.address.rsplit("/", 2)[0]})
        try:
            with urllib.request.urlopen(request, timeout=30) as found:
                return int(found.status)
        except urllib.error.HTTPError as refused:
            said = json.loads(refused.read())
            return refused.code if said["problem"] else 0

    assert post(encode_png(np.zeros((4, 4, 3), np.uint8))) == 200
    assert post(b"nonsense") == 400
