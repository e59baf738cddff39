"""The Python interface: the documentation's example runs, and renders what ``speak`` renders."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import radnerf
from stages.errors import BadInput
from stages.media import probe, read_video
from stages.provenance import read_provenance
from tests.speaking_subject import make_speaking_subject
from tests.test_batch import tone
from tests.tiny_subject import SIZE_PX

_PAGE = Path(__file__).resolve().parent.parent / "docs" / "python.md"


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A working directory with a subject and a speech."""
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "data"))
    monkeypatch.delenv("RADNERF_HOME", raising=False)
    monkeypatch.chdir(tmp_path)
    make_speaking_subject(tmp_path, "anchor")
    tone(tmp_path / "speech.wav")
    return tmp_path


def test_the_example_in_the_documentation_runs(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (example,) = re.findall(r"```python\n(.*?)```", _PAGE.read_text(encoding="utf-8"), re.DOTALL)
    exec(compile(example, str(_PAGE), "exec"), {})
    said = capsys.readouterr().out
    assert f"anchor ({SIZE_PX}, {SIZE_PX}, 3)" in said
    assert "covered:" in said
    found = read_provenance(home / "out.mp4")
    assert found is not None
    assert (found.intact, found.subject, found.consent) == (True, "anchor", "Anna, by mail")


def test_frames_are_those_of_the_video(home: Path) -> None:
    portrait = radnerf.load(home / "subjects" / "anchor", device="cpu")
    assert (portrait.name, portrait.size_px, portrait.fps) == ("anchor", SIZE_PX, 25)
    portrait.render("speech.wav", "red.mp4", background="red")
    filmed = list(read_video(probe(home / "red.mp4"), [], (SIZE_PX, SIZE_PX)))
    frames = list(portrait.frames("speech.wav", background=(255, 0, 0)))
    assert len(frames) == len(filmed) == 9
    assert np.abs(np.stack(frames).astype(float) - np.stack(filmed)).mean() < 10
    turned = next(portrait.frames("speech.wav", view_deg=(20, 0), background=(255, 0, 0)))
    assert not np.array_equal(turned, frames[0])
    assert next(portrait.cutouts("speech.wav", size_px=32)).shape == (32, 32, 4)


def test_what_cannot_be_used_is_refused(home: Path) -> None:
    with pytest.raises(BadInput, match="there is no subject 'nobody'"):
        radnerf.load("nobody")
    portrait = radnerf.load("anchor", device="cpu")
    with pytest.raises(BadInput, match=r"ends in \.mp4 or \.mov"):
        portrait.render("speech.wav", "out.avi")
    with pytest.raises(BadInput, match="there is no file"):
        portrait.render("speech.wav", "out.mp4", background=Path("none.jpg"))
    with pytest.raises(BadInput, match="eyes"):
        next(portrait.frames("speech.wav", eyes=7.0))
    shutil.rmtree(home / "subjects" / "anchor" / "torso")
    with pytest.raises(BadInput, match=r"has no torso\.safetensors"):
        radnerf.load("anchor")


def test_importing_the_engine_imports_no_stage() -> None:
    script = "import sys, radnerf; print(*sorted(name for name in sys.modules if name.startswith(('stages', 'torch'))))"
    done = subprocess.run([sys.executable, "-P", "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout.split() == []
    with pytest.raises(AttributeError, match="no attribute 'lode'"):
        _ = radnerf.lode  # type: ignore[attr-defined]
