"""Two minutes in place of an hour: memory stays, sound and picture stay together."""

from __future__ import annotations

from pathlib import Path

from tests.torture.long_speech import speak_long


def test_sound_and_picture_stay_together_and_memory_stays(tmp_path: Path) -> None:
    found = speak_long(tmp_path, 40.0)
    assert abs(found.sound_lag_ms) < 1
    begin, end = found.picture_lags
    # The lips of a model begin before their sound; what matters is that they do so as much at the end.
    assert abs(begin) <= 3
    assert abs(end - begin) <= 1
    assert found.late_mb < found.early_mb + 48
