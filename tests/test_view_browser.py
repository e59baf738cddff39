"""The window in a browser: it loads, the head is dragged, things are changed, a speech is played; on any screen."""

from __future__ import annotations

import base64
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import cv2
import numpy as np
import pytest

from tests.chromium import Browser, browsing, find_chromium
from tests.live_subject import make_live_subject, speech_like, write_sound
from tests.test_report_browser import CONTRASTS

CHROMIUM = find_chromium()

pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="no Chromium here (Debian: apt-get install chromium)")

DESKTOP, PHONE = (1280, 900), (390, 844)
CANVAS = "document.querySelector('canvas')"
STILL = "document.querySelector('[data-alive]').click()"


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a subject and a speech."""
    folder = tmp_path_factory.mktemp("home")
    make_live_subject(folder)
    write_sound(folder / "hello.wav", speech_like(2.0))
    return folder


@pytest.fixture(scope="module")
def address(home: Path) -> Iterator[str]:
    """``radnerf view``, ended with Ctrl-C."""
    words = [
        "view",
        "anna",
        "--home",
        str(home),
        "--speech",
        str(home / "hello.wav"),
        "--no-open",
        "--backend",
        "reference",
    ]
    process = subprocess.Popen(
        [sys.executable, "-m", "cli.app", *words], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    line = process.stdout.readline().strip()
    try:
        assert re.fullmatch(r"http://127\.0\.0\.1:\d+/[\w-]{32}/", line), line or process.communicate()[1]
        yield line
    finally:
        os.kill(process.pid, signal.SIGINT)
        _, said = process.communicate(timeout=30)
    assert process.returncode == 130
    assert said.strip() == "the window is closed"


@pytest.fixture(scope="module")
def one_browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    """A browser for all tests."""
    with browsing(str(CHROMIUM), tmp_path_factory.mktemp("profile") / "new") as browser:
        yield browser


@pytest.fixture
def browser(one_browser: Browser, address: str) -> Iterator[Browser]:
    """The window on a desktop's screen; afterwards, nothing was complained about and nothing asked of others."""
    one_browser.messages.clear()
    one_browser.requests.clear()
    one_browser.size(*DESKTOP)
    one_browser.call("Page.navigate", url=address)
    one_browser.wait("document.documentElement?.dataset.ready === 'true'")
    yield one_browser
    assert one_browser.messages == []
    assert all(url.startswith((address, address.replace("http", "ws"), "data:")) for url in one_browser.requests)


def canvas(browser: Browser) -> np.ndarray:
    """What the canvas holds, scaled to 48 pixels, (48, 48, 3) uint8."""
    data = browser.run(f"{CANVAS}.toDataURL('image/png').split(',')[1]")
    found = cv2.imdecode(np.frombuffer(base64.b64decode(data), np.uint8), cv2.IMREAD_COLOR)
    assert found is not None
    return np.asarray(cv2.resize(found, (48, 48), interpolation=cv2.INTER_AREA))


def settle(browser: Browser) -> np.ndarray:
    """The picture once nothing moves any more."""
    browser.wait(f"{CANVAS}.dataset.final === 'true'")
    return canvas(browser)


def change(browser: Browser, script: str) -> np.ndarray:
    """The picture after a change, once it is at rest again."""
    number = browser.run(f"Number({CANVAS}.dataset.number)")
    browser.run(script)
    browser.wait(f"Number({CANVAS}.dataset.number) > {number} && {CANVAS}.dataset.final === 'true'")
    return canvas(browser)


def slide(name: str, value: str) -> str:
    """A script that moves a slider as a person would."""
    return (
        f"(() => {{ const s = document.querySelector('[data-{name}]'); s.value = {value};"
        " s.dispatchEvent(new Event('input', {bubbles: true})); })()"
    )


def difference(first: np.ndarray, second: np.ndarray) -> float:
    return float(np.abs(first.astype(int) - second).mean())


def test_the_head_moves_by_itself_until_it_is_told_not_to(browser: Browser) -> None:
    frame = f"Number({CANVAS}.dataset.frame)"
    first = browser.run(frame)
    browser.wait(f"{frame} > {first} + 5")
    browser.run(STILL)
    settle(browser)
    assert browser.run(f"{CANVAS}.width") == 96
    still = browser.run(frame)
    assert browser.run(f"new Promise((done) => setTimeout(() => done({frame}), 200))") == still


def test_dragging_turns_the_head_as_far_as_the_clip_goes(browser: Browser) -> None:
    browser.run(STILL)
    before = settle(browser)
    left, top, side = browser.run(
        f"(() => {{ const b = {CANVAS}.getBoundingClientRect(); return [b.left, b.top, b.width]; }})()"
    )
    middle = (left + side / 2, top + side / 2)
    browser.drag(middle, (middle[0] + side * 0.05, middle[1]))
    browser.wait(f"{CANVAS}.dataset.turn === '4.5,0.0' && {CANVAS}.dataset.final === 'true'")
    turned = canvas(browser)
    assert difference(before, turned) > 0.1
    browser.drag(middle, (middle[0] + side * 0.45, middle[1]))
    browser.wait("document.querySelector('[data-limit]').textContent.startsWith('No farther')")
    browser.wait("document.querySelector('[data-limit]').textContent === ''")
    most = browser.run("Number(document.querySelector('[data-yaw]').max)")
    assert browser.run("Number(document.querySelector('[data-yaw]').value)") == pytest.approx(most, abs=0.5)
    browser.run(f"{CANVAS}.focus()")
    browser.key("Home")
    browser.wait(f"{CANVAS}.dataset.turn === '0.0,0.0' && {CANVAS}.dataset.final === 'true'")
    browser.key("ArrowLeft")
    browser.key("ArrowLeft")
    browser.wait(f"{CANVAS}.dataset.turn === '-2.0,0.0'")


def test_eyes_mouth_and_background_are_changed(browser: Browser) -> None:
    browser.run(STILL)
    plain = settle(browser)
    shut = change(browser, slide("eyes", "0"))
    assert difference(plain, shut) > 0.02
    assert not browser.run("document.querySelector('[data-blinks]').checked")
    wide = change(browser, slide("mouth", "1"))
    assert difference(shut, wide) > 0.02
    assert browser.run("document.querySelector('[data-mouth-says]').textContent") == "100 %"
    red = change(browser, slide("colour", "'#ff0000'"))
    assert red[1, 1, 2] > wide[1, 1, 2] + 60
    back = change(browser, "document.querySelector('input[value=clip]').click()")
    assert difference(back, wide) < 1
    given = browser.run(
        "new Promise((done) => { const c = document.createElement('canvas'); c.width = c.height = 8;"
        " const b = c.getContext('2d'); b.fillStyle = '#00ff00'; b.fillRect(0, 0, 8, 8); c.toBlob((blob) => {"
        " const t = new DataTransfer(); t.items.add(new File([blob], 'a.png', {type: 'image/png'}));"
        " const p = document.querySelector('[data-picture]'); p.files = t.files;"
        " p.dispatchEvent(new Event('change')); done(true); }); })"
    )
    assert given
    browser.wait("document.querySelector('input[value=picture]').checked")
    end = time.monotonic() + 60
    while canvas(browser)[1, 1, 1] < int(back[1, 1, 1]) + 60:
        assert time.monotonic() < end, "the picture never stood behind the portrait"


def test_a_size_that_was_chosen_is_kept(browser: Browser) -> None:
    browser.run(STILL)
    settle(browser)
    change(
        browser, "(() => { const s = document.querySelector('select[data-size]'); s.value = '128'; s.onchange(); })()"
    )
    assert browser.run(f"{CANVAS}.width") == 128
    assert "128 × 128" in browser.run("document.querySelector('[data-rate]').textContent")


def test_a_speech_is_played_with_its_sound_and_scrubbed(browser: Browser) -> None:
    browser.run("document.querySelector('[data-play]').focus()")
    browser.key("Enter")
    browser.wait("document.querySelector('audio').currentTime > 0.3")
    frame, time = f"Number({CANVAS}.dataset.frame)", "document.querySelector('audio').currentTime"
    assert browser.run("document.querySelector('[data-play]').textContent") == "Pause"
    assert browser.run("document.querySelector('[data-speech]').selectedOptions[0].textContent") == "hello.wav"
    apart = [browser.run(f"{frame} / 25 - {time}") for _ in range(5)]
    assert np.median(np.abs(apart)) < 0.2
    browser.wait("document.querySelector('audio').ended")
    browser.wait("document.querySelector('[data-play]').textContent === 'Play'")
    browser.wait(f"{frame} >= 48")
    browser.run(slide("scrub", "0.8"))
    browser.wait(f"{frame} === 20 && {CANVAS}.dataset.final === 'true'")
    spoken = canvas(browser)
    browser.run(slide("scrub", "0.4"))
    browser.wait(f"{frame} === 10 && {CANVAS}.dataset.final === 'true'")
    assert difference(spoken, canvas(browser)) > 0.02
    assert "0:00 / 0:02" in browser.run("document.querySelector('[data-time]').textContent")
    browser.run("(() => { const s = document.querySelector('[data-speech]'); s.value = ''; s.onchange(); })()")
    browser.wait("document.querySelector('[data-scrub]').disabled")


@pytest.mark.parametrize("dark", [False, True], ids=["light", "dark"])
@pytest.mark.parametrize("phone", [False, True], ids=["desktop", "phone"])
def test_nothing_sticks_out_and_text_can_be_read(browser: Browser, *, phone: bool, dark: bool) -> None:
    width, height = PHONE if phone else DESKTOP
    browser.size(width, height, dark=dark, phone=phone)
    browser.wait(f"{CANVAS}.getBoundingClientRect().width <= innerWidth")
    assert browser.run("document.documentElement.scrollWidth") == width
    contrasts = browser.run(CONTRASTS)
    assert len(contrasts) > 15
    assert [entry for entry in contrasts if entry[0] < 4.5] == []
    sizes = browser.run("[...document.querySelectorAll('button, select')].map((b) => b.getBoundingClientRect().height)")
    assert min(sizes) >= 40
    assert browser.run(f"{CANVAS}.getBoundingClientRect().width") >= 300
    shot = cv2.imdecode(np.frombuffer(browser.picture(), np.uint8), cv2.IMREAD_COLOR)
    assert shot is not None
    assert shot.std() > 10


def test_everything_has_a_name_for_those_who_do_not_see_it(browser: Browser) -> None:
    nameless = browser.run(
        "[...document.querySelectorAll('button, input, select, canvas')].filter((e) =>"
        " !(e.getAttribute('aria-label') || e.textContent.trim() || (e.labels && e.labels.length)))"
        ".map((e) => e.outerHTML.slice(0, 80))"
    )
    assert nameless == []
    reached = browser.run(
        "[...document.querySelectorAll('button, input, select, canvas')].filter((e) => e.tabIndex < 0).length"
    )
    assert reached == 0
