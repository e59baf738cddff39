"""Runs espeak-ng in a process of its own: ``python espeak_process.py request.json answer.npz``.

The library keeps global state, may print, and on bad data it ends the process; none of that should reach the
caller. The request names the library, its data folder, a voice, a rate and the sentences. The answer holds, all
sentences joined: ``samples`` int16, ``sentence_end`` (sentences,) the sample after each, and for each phoneme
event ``event_sample`` and ``event_symbol`` (IPA; empty for a pause).
"""

from __future__ import annotations

import ctypes
import json
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np

_SYNCHRONOUS = 2  # AUDIO_OUTPUT_SYNCHRONOUS: samples go to the callback, no sound device is opened
_PHONEME_EVENTS_IPA_NO_EXIT = 0x1 | 0x2 | 0x8000
_UTF8 = 1
_RATE, _PITCH = 1, 3
_EVENT_PHONEME = 7
_SAMPLE_RATE_HZ = 22050


class _Id(ctypes.Union):
    _fields_ = (("number", ctypes.c_int), ("name", ctypes.c_char_p), ("string", ctypes.c_char * 8))


class _Event(ctypes.Structure):
    """``espeak_EVENT`` of speak_lib.h."""

    _fields_ = (
        ("type", ctypes.c_int),
        ("unique_identifier", ctypes.c_uint),
        ("text_position", ctypes.c_int),
        ("length", ctypes.c_int),
        ("audio_position", ctypes.c_int),
        ("sample", ctypes.c_int),
        ("user_data", ctypes.c_void_p),
        ("id", _Id),
    )


_CALLBACK = ctypes.CFUNCTYPE(ctypes.c_int, ctypes.POINTER(ctypes.c_short), ctypes.c_int, ctypes.POINTER(_Event))


def _recorder(chunks: list[bytes], events: list[tuple[int, str]]) -> Callable[..., int]:
    def record(wave: ctypes.Array[ctypes.c_short], count: int, event: ctypes.Array[_Event]) -> int:
        index = 0
        while event[index].type:
            if event[index].type == _EVENT_PHONEME:
                raw = bytes(event[index].id)[:8].split(b"\0")[0]
                events.append((int(event[index].sample), raw.decode("utf-8", "ignore")))
            index += 1
        if wave and count > 0:
            chunks.append(ctypes.string_at(wave, 2 * count))
        return 0

    return record


def main(request_path: str, answer_path: str) -> str:
    """Speak the request into the answer; returns an error message, empty when all went well."""
    request = json.loads(Path(request_path).read_text(encoding="utf-8"))
    library = ctypes.CDLL(request["library"])
    rate_hz = library.espeak_Initialize(_SYNCHRONOUS, 0, request["data"].encode("utf-8"), _PHONEME_EVENTS_IPA_NO_EXIT)
    if rate_hz != _SAMPLE_RATE_HZ:
        return f"espeak-ng did not start with its data in {request['data']} (answer {rate_hz})"
    if library.espeak_SetVoiceByName(request["voice"].encode("utf-8")) != 0:
        return f"espeak-ng has no voice {request['voice']!r}"
    library.espeak_SetParameter(_RATE, request["rate_wpm"], 0)
    library.espeak_SetParameter(_PITCH, request["pitch"], 0)
    samples: list[bytes] = []
    events: list[tuple[int, str]] = []
    ends: list[int] = []
    total = 0
    for sentence in request["sentences"]:
        chunks: list[bytes] = []
        own_events: list[tuple[int, str]] = []
        callback = _CALLBACK(_recorder(chunks, own_events))
        library.espeak_SetSynthCallback(callback)
        text = sentence.encode("utf-8")
        if library.espeak_Synth(text, len(text) + 1, 0, 1, 0, _UTF8, None, None) != 0:
            return f"espeak-ng could not speak {sentence!r}"
        samples += chunks
        events += [(total + at, symbol) for at, symbol in own_events]
        total += sum(map(len, chunks)) // 2
        ends.append(total)
    np.savez(
        answer_path,
        samples=np.frombuffer(b"".join(samples), dtype=np.int16),
        sentence_end=np.array(ends, dtype=np.int64),
        event_sample=np.array([at for at, _ in events], dtype=np.int64),
        event_symbol=np.array([symbol for _, symbol in events], dtype="U8"),
    )
    return ""


if __name__ == "__main__":
    sys.exit(main(sys.argv[1], sys.argv[2]) or None)
