"""Two minutes in place of an hour: memory stays, sound stays where it was, and no frame is missing."""

from __future__ import annotations

from pathlib import Path

from stages.media import probe
from tests.torture.long_speech import speak_long

# Whether the picture of an untrained head answers sound as promptly at the end is not asked here: it hardly answers.


def test_sound_and_picture_stay_together_and_memory_stays(tmp_path: Path) -> None:
    found = speak_long(tmp_path, 40.0)
    assert abs(found.sound_lag_ms) < 1
    video = next(path for path in tmp_path.rglob("video.mp4"))
    assert abs(probe(video).duration_s - 40.0) < 1 / 25
    assert found.late_mb < found.early_mb + 48
