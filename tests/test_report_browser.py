"""The report in a browser: it loads without the network, and its player, divider and curves work on any screen."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from pathlib import Path

import cv2
import numpy as np
import pytest

from stages.evaluation_measures import FACE_FIGURES
from tests.chromium import Browser, browsing, find_chromium
from tests.tiny_report import invent_faces, make_reported_subject, write_page

CHROMIUM = find_chromium()

pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="no Chromium here (Debian: apt-get install chromium)")

DESKTOP, PHONE = (1280, 900), (390, 844)
FRAME = "Number(document.documentElement.dataset.frame)"


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The page of a tiny subject with invented lips."""
    workspace = make_reported_subject(tmp_path_factory.mktemp("subjects") / "tiny")
    invent_faces(workspace)
    write_page(workspace)
    return workspace.report


@pytest.fixture(scope="module")
def one_browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    """A browser for all tests."""
    with browsing(str(CHROMIUM), tmp_path_factory.mktemp("profile") / "new") as browser:
        yield browser


@pytest.fixture
def browser(one_browser: Browser, page: Path) -> Iterator[Browser]:
    """The page on a desktop's screen; afterwards, nothing was complained about and nothing asked of the network."""
    one_browser.messages.clear()
    one_browser.requests.clear()
    one_browser.size(*DESKTOP)
    one_browser.open(page)
    one_browser.wait(f"{FRAME} === 30")
    yield one_browser
    assert one_browser.messages == []
    assert {address.partition(":")[0] for address in one_browser.requests} <= {"file", "data", "blob"}
    assert [address for address in one_browser.requests if address.startswith("file")] == [page.as_uri()]


def picture(browser: Browser, selector: str) -> np.ndarray:
    """What a part of the page looks like, (H, W, 3) uint8 BGR."""
    browser.run(f"document.querySelector({selector!r}).scrollIntoView({{block: 'center'}})")
    box = browser.run(f"(() => {{ const b = document.querySelector({selector!r}).getBoundingClientRect();"
                      " return [b.left, b.top, b.right, b.bottom]; })()")  # fmt: skip
    left, top, right, bottom = (round(value) for value in box)
    shot = cv2.imdecode(np.frombuffer(browser.picture(), np.uint8), cv2.IMREAD_COLOR)
    assert shot is not None
    return np.asarray(shot[top:bottom, left:right])


def difference(first: np.ndarray, second: np.ndarray) -> float:
    return float(np.abs(first.astype(int) - second).mean())


def test_true_and_rendered_pictures_are_drawn(browser: Browser) -> None:
    truth, rendered = (picture(browser, f"canvas[data-tile={tile}]") for tile in ("truth", "mode"))
    assert truth.std() > 10
    assert rendered.std() > 10
    assert difference(truth, rendered) > 2


def test_the_scrubber_moves_pictures_and_curves_together(browser: Browser) -> None:
    before = picture(browser, "canvas[data-tile=parsing]")
    browser.run("document.querySelector('[data-scrub]').focus()")
    browser.key("End")
    browser.wait(f"{FRAME} === 32")
    assert difference(before, picture(browser, "canvas[data-tile=parsing]")) > 0.5
    assert "frame 32" in browser.run("document.querySelector('[data-time]').textContent")
    for name in ("lip_opening", "lip_width", "eye_open", "psnr"):
        said = browser.run(f"document.querySelector('[data-chart={name}] svg').getAttribute('aria-valuetext')")
        assert said.startswith("frame 32: ")
    browser.key("ArrowLeft")
    browser.wait(f"{FRAME} === 31")
    # The face was not found there.
    assert "head mode –" in browser.run(
        "document.querySelector('[data-chart=lip_opening] svg').getAttribute('aria-valuetext')"
    )


def test_playing_goes_on_and_stops(browser: Browser) -> None:
    browser.run("document.querySelector('[data-loop]').click()")
    browser.run("document.querySelector('[data-play]').focus()")
    browser.key("Space")
    browser.wait(f"{FRAME} === 32 && document.querySelector('video').ended")
    browser.wait("document.querySelector('[data-play]').textContent === 'Play'")
    browser.run("document.querySelector('[data-step=\"-1\"]').click()")
    browser.wait(f"{FRAME} === 31")


def test_the_divider_uncovers_the_rendered_picture(browser: Browser) -> None:
    shown = "[data-wipe-canvas]"
    browser.run("document.querySelector('[data-divider]').focus()")
    browser.key("End")
    truth = picture(browser, shown)
    browser.run("document.querySelector('[data-divider]').focus()")
    browser.key("Home")
    rendered = picture(browser, shown)
    assert difference(truth, rendered) > 2
    browser.run(f"document.querySelector('{shown}').scrollIntoView({{block: 'center'}})")
    left, top, side = browser.run(
        f"(() => {{ const b = document.querySelector('{shown}').getBoundingClientRect();"
        " return [b.left, b.top, b.width]; })()"
    )
    browser.drag((left + 0.1 * side, top + 0.5 * side), (left + 0.75 * side, top + 0.5 * side))
    assert float(browser.run("document.querySelector('[data-divider]').value")) == pytest.approx(75, abs=1)


def test_the_mode_changes_pictures_curves_and_words(browser: Browser) -> None:
    before = picture(browser, "canvas[data-tile=mode]")
    opening = "document.querySelector('[data-chart=lip_opening] .line.%s') !== null"
    assert browser.run(opening % "head")
    browser.run("document.querySelector('input[value=composite]').click()")
    assert difference(before, picture(browser, "canvas[data-tile=mode]")) > 2
    assert browser.run(opening % "composite")
    assert not browser.run(opening % "head")
    assert browser.run("document.querySelector('[data-mode-name]').textContent") == "composite"


def test_curves_are_read_and_followed_with_keys_and_mouse(browser: Browser) -> None:
    browser.run("document.querySelector('[data-chart=lip_opening] svg').focus()")
    browser.key("ArrowRight")
    browser.wait(f"{FRAME} === 31")
    left, top, width, height = browser.run(
        "(() => { const b = document.querySelector('[data-chart=psnr] svg'); b.scrollIntoView({block: 'center'});"
        " const c = b.getBoundingClientRect(); return [c.left, c.top, c.width, c.height]; })()"
    )
    place = (left + width - 12, top + height / 2)
    browser.drag(place, place)
    browser.wait(f"{FRAME} === 32")
    browser.run("document.querySelector('[data-chart=loss] summary').click()")
    browser.wait("document.querySelectorAll('[data-chart=loss] tbody tr').length === 4")
    assert browser.run("document.querySelector('[data-chart=loss] tbody th').textContent") == "step 10"


def test_training_is_drawn_over_steps_or_minutes(browser: Browser) -> None:
    first = "document.querySelector('[data-chart=loss] svg').getAttribute('aria-valuemax')"
    assert float(browser.run(first)) == 40
    browser.run("document.querySelector('input[value=minute]').click()")
    assert float(browser.run(first)) == pytest.approx(4 / 60)


@pytest.mark.parametrize("dark", [False, True], ids=["light", "dark"])
@pytest.mark.parametrize("phone", [False, True], ids=["desktop", "phone"])
def test_nothing_sticks_out_and_text_can_be_read(browser: Browser, *, phone: bool, dark: bool) -> None:
    width, height = PHONE if phone else DESKTOP
    browser.size(width, height, dark=dark, phone=phone)
    browser.wait("document.querySelector('[data-chart=loss] svg').getBoundingClientRect().width <= innerWidth")
    assert browser.run("document.documentElement.scrollWidth") == width
    contrasts = browser.run(CONTRASTS)
    assert len(contrasts) > 20
    assert [entry for entry in contrasts if entry[0] < 4.5] == []
    paper = browser.run("getComputedStyle(document.body).backgroundColor")
    assert (int(paper[4:].split(",")[0]) < 60) == dark
    sizes = browser.run("[...document.querySelectorAll('button')].map((b) => b.getBoundingClientRect().height)")
    assert min(sizes) >= 40


CONTRASTS = """
(() => {
  const light = (text) => {
    const [r, g, b] = text.match(/[\\d.]+/g).map(Number).map((v) => v / 255)
      .map((v) => (v <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4));
    return 0.2126 * r + 0.7152 * g + 0.0722 * b;
  };
  const behind = (node) => {
    for (let at = node; at; at = at.parentElement) {
      const colour = getComputedStyle(at).backgroundColor;
      if (!/, 0\\)$|transparent/.test(colour)) return colour;
    }
    return "rgb(255, 255, 255)";
  };
  return [...document.querySelectorAll("p, h1, h2, h3, dt, dd, th, td, a, summary, figcaption, label, button, small")]
    .filter((node) => node.textContent.trim() && node.getClientRects().length)
    .map((node) => {
      const [a, b] = [light(getComputedStyle(node).color), light(behind(node))];
      return [(Math.max(a, b) + 0.05) / (Math.min(a, b) + 0.05), node.tagName, node.textContent.trim().slice(0, 30)];
    });
})()
"""


def test_everything_has_a_name_for_those_who_do_not_see_it(browser: Browser) -> None:
    nameless = browser.run(
        "[...document.querySelectorAll('button, input, select, canvas, img, svg[role], [role=region]')].filter((e) =>"
        " !(e.getAttribute('aria-label') || e.alt || e.textContent.trim() || (e.labels && e.labels.length)))"
        ".map((e) => e.outerHTML.slice(0, 80))"
    )
    assert nameless == []
    levels = browser.run("[...document.querySelectorAll('h1, h2, h3')].map((e) => Number(e.tagName[1]))")
    assert levels[0] == 1
    assert all(after - before <= 1 for before, after in itertools.pairwise(levels))


def test_a_video_that_cannot_be_played_is_said_and_the_rest_stays(one_browser: Browser, page: Path) -> None:
    broken = page.with_name("broken.html")
    text = page.read_text(encoding="utf-8")
    start = text.index("data:video/mp4;base64,") + len("data:video/mp4;base64,")
    broken.write_text(text[:start] + "AAAA" + text[text.index('"', start) :], encoding="utf-8")
    one_browser.open(broken)
    one_browser.wait("!document.querySelector('[data-video-error]').hidden")
    assert one_browser.run("document.querySelectorAll('[data-chart=loss] svg path').length") > 0


def test_without_scripts_the_video_the_stills_and_the_tables_remain(one_browser: Browser, page: Path) -> None:
    one_browser.call("Emulation.setScriptExecutionDisabled", value=True)
    try:
        one_browser.call("Page.navigate", url=page.as_uri())
        one_browser.wait("document.readyState === 'complete' && document.querySelector('video').readyState > 1")
        assert one_browser.run("document.documentElement.dataset.ready") is None
        assert one_browser.run("document.querySelector('video').controls")
        assert one_browser.run("document.querySelector('video').getBoundingClientRect().height") > 50
        assert one_browser.run("document.querySelector('.controls').getBoundingClientRect().height") == 0
        assert one_browser.run("[...document.querySelectorAll('img')].every((image) => image.naturalWidth > 0)")
        assert one_browser.run("document.querySelectorAll('table.figures tbody td').length") == 2 * (
            5 + len(FACE_FIGURES)
        )
    finally:
        one_browser.call("Emulation.setScriptExecutionDisabled", value=False)
