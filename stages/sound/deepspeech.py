"""DeepSpeech 0.1 (arXiv 1412.5567) as a front end: 29 character scores at 50 Hz from 26 MFCCs and their context.

The input follows the released model: 26 cepstra of a 25 ms window every 20 ms, nine rows of context on each side,
standardised over the whole file.
"""

from __future__ import annotations

import hashlib
import importlib.util
from pathlib import Path
from typing import Any

import numpy as np
from python_speech_features import mfcc

from stages.errors import BadInput
from stages.formats import FEATURE_RATE_HZ, SAMPLE_RATE_HZ
from stages.settings import AudioSettings
from stages.sound.front_end import Rows, blend_windows
from stages.sound.reference import StandardisedFrontEnd
from stages.sound.wav import ROW_SAMPLES, Sound

CEPSTRA = 26
"""Mel-frequency cepstra a row."""

CONTEXT_ROWS = 9
"""Rows on each side that the network sees as well."""

_WINDOW_SAMPLES = 400
_LEAD_SAMPLES = (_WINDOW_SAMPLES - ROW_SAMPLES) // 2
_PREEMPHASIS = 0.97
_BLOCK_ROWS = 1500
_WINDOW_ROWS = 3000
_OVERLAP_ROWS = 250
_SUFFIX = ".pb"


def cepstra(sound: Sound, gain: float) -> Rows:
    """Mel-frequency cepstra, the zeroth replaced by the log energy, as python_speech_features makes them.

    Args:
        sound: The sound.
        gain: Factor on its samples.

    Returns:
        (rows, 26) float32; row t is centred at (t + 0.5)/50 s.
    """
    result = np.empty((sound.rows, CEPSTRA), np.float32)
    for first, last in sound.blocks(_BLOCK_ROWS):
        begin = first * ROW_SAMPLES - _LEAD_SAMPLES
        end = (last - 1) * ROW_SAMPLES - _LEAD_SAMPLES + _WINDOW_SAMPLES
        # Emphasised here, with one sample more at the front, so that chunks join exactly; at the scale of 16-bit
        # integers, which the released model was trained on.
        samples = sound.read(begin - 1, end).astype(np.float64) * (gain * 32_768.0)
        emphasised = samples[1:] - _PREEMPHASIS * samples[:-1]
        result[first:last] = mfcc(
            emphasised, SAMPLE_RATE_HZ, winstep=1.0 / FEATURE_RATE_HZ, numcep=CEPSTRA, preemph=0.0
        )
    return result


def context_windows(rows: Rows) -> Rows:
    """What the network sees of every row: nine rows before, itself, nine after, standardised together.

    Args:
        rows: (T, 26) float32 of the whole file.

    Returns:
        (T, 19, 26) float32, a view; zeros continue the file at its ends before standardising.
    """
    padded = np.pad(rows, ((CONTEXT_ROWS, CONTEXT_ROWS), (0, 0)))
    shown = np.convolve(np.ones(len(rows)), np.ones(2 * CONTEXT_ROWS + 1))[:, None]
    count = len(rows) * (2 * CONTEXT_ROWS + 1) * rows.shape[1]
    mean = float((padded * shown).sum() / count)
    deviation = float(np.sqrt(((padded - mean) ** 2 * shown).sum() / count))
    standard = ((padded - mean) / max(deviation, 1e-6)).astype(np.float32)
    windows: Rows = np.lib.stride_tricks.sliding_window_view(standard, 2 * CONTEXT_ROWS + 1, axis=0)
    return windows.transpose(0, 2, 1)


class DeepSpeech(StandardisedFrontEnd):
    """The released frozen graph's character scores (logits), standardised on a fixed sound."""

    name = "deepspeech"

    def __init__(self, graph: Path) -> None:
        """Load the graph.

        Args:
            graph: ``output_graph.pb`` of DeepSpeech 0.1.

        Raises:
            BadInput: The file is no such graph.
        """
        import tensorflow as tf

        data = graph.read_bytes()
        definition = tf.compat.v1.GraphDef()
        try:
            definition.ParseFromString(data)
            self._graph: Any = tf.Graph()
            with self._graph.as_default():
                tf.import_graph_def(definition, name="")
            for tensor in ("input_node:0", "input_lengths:0", "logits:0"):
                self._graph.get_tensor_by_name(tensor)
        except Exception as error:
            # Protobuf and tensorflow raise a dozen unrelated types for a wrong file.
            raise BadInput(
                f"{graph} is no DeepSpeech 0.1 graph: {' '.join(str(error).split())[:200]}",
                hint="give output_graph.pb of the release 0.1.0 or 0.1.1",
            ) from error
        self._session: Any = tf.compat.v1.Session(graph=self._graph)
        self.model = f"sha256:{hashlib.sha256(data).hexdigest()[:16]}"

    def raw(self, sound: Sound, gain: float) -> Rows:
        """Character scores, (rows, 29) float32."""
        windows = context_windows(cepstra(sound, gain))

        def encode(first: int, last: int) -> Rows:
            seen = windows[first:last].reshape(1, last - first, -1)
            scores = self._session.run("logits:0", {"input_node:0": seen, "input_lengths:0": [last - first]})
            result: Rows = np.asarray(scores, np.float32).reshape(last - first, -1)
            return result

        return blend_windows(sound.rows, _WINDOW_ROWS, _OVERLAP_ROWS, encode)


def load(settings: AudioSettings) -> DeepSpeech:
    """The graph that the settings point at.

    Raises:
        BadInput: No graph is named, it is not there, or tensorflow is missing.
    """
    graph = Path(settings.model)
    if not settings.model or not graph.is_file() or graph.suffix != _SUFFIX:
        what = f"audio.model is {settings.model!r}" if settings.model else "audio.model is empty"
        raise BadInput(
            f"the deepspeech front end needs the released graph; {what}",
            hint="set audio.model to output_graph.pb of DeepSpeech 0.1.0, or use another front end",
        )
    if importlib.util.find_spec("tensorflow") is None:
        raise BadInput("the deepspeech front end needs tensorflow", hint="pip install tensorflow")
    return DeepSpeech(graph)
