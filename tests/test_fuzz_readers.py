"""Whatever a settings text, subject, job, bundle or checkpoint holds: it is read, or refused; nothing else happens."""

from __future__ import annotations

import io
import json
import struct
import subprocess
import sys
import tempfile
import zipfile
import zlib
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from safetensors.torch import save

from cli.subject import SubjectRecord, load_record
from stages.archive import Archive
from stages.atomic_files import load_json
from stages.checkpoint import flatten, load_checkpoint, save_checkpoint, unflatten
from stages.errors import BadInput, RadnerfError
from stages.formats import AudioFeatures, Landmarks, Track
from stages.head_file import load_head
from stages.hearing import open_features
from stages.plain_yaml import read_yaml, shown
from stages.settings import STAGES, SubjectSettings
from stages.settings_reading import parse_assignment, resolve
from stages.speech_job import SpeechJob, load_job
from tests import tiny_subject

LIGHT = settings(
    max_examples=60, deadline=None, derandomize=True, suppress_health_check=[HealthCheck.function_scoped_fixture]
)

leaves = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text(max_size=12)
    | st.sampled_from([10**400, -(10**30), "../x", "/etc/passwd", "!!python/name:os.system", "nan", ""])
)
values = st.recursive(
    leaves,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4),
    max_leaves=8,
)


def reads_or_refuses(read: Callable[[], object], kind: type | tuple[type, ...]) -> None:
    """A reader gives a valid object, or says in a short line why not."""
    try:
        found: object = read()
    except BadInput as error:
        found = error.message
        kind = str
    assert isinstance(found, kind)
    if kind is str:
        assert "\n" not in str(found)
        assert len(str(found)) < 700


KEYS = [("head", "steps"), ("head", "grid_rate"), ("head", "backbone"), ("frames", "crop"), ("audio", "model"),
        ("render", "sign"), ("torso", "levels"), ("head", "base_resolution"), ("nose", "size")]  # fmt: skip


@LIGHT
@given(
    preset=st.sampled_from(["draft", "max"]) | values,
    changes=st.dictionaries(st.sampled_from([stage for stage, _ in KEYS]) | st.text(max_size=5), values, max_size=3)
    | st.sampled_from(KEYS).flatmap(lambda key: values.map(lambda value: {key[0]: {key[1]: value}})),
)
def test_any_settings_are_read_or_refused(preset: Any, changes: dict[str, Any]) -> None:
    reads_or_refuses(lambda: resolve(preset, changes), SubjectSettings)


@LIGHT
@given(text=st.text(max_size=60) | st.sampled_from(KEYS).flatmap(
    lambda key: st.text(max_size=40).map(lambda text: f"{key[0]}.{key[1]}={text}")))  # fmt: skip
def test_any_assignment_is_read_or_refused(text: str) -> None:
    reads_or_refuses(lambda: parse_assignment(text), tuple)


@LIGHT
@given(text=st.text(max_size=200) | st.text(alphabet="[]{}:,-&*!|>'\"# \n\tax1.", max_size=120))
def test_any_yaml_is_read_or_refused(text: str) -> None:
    reads_or_refuses(lambda: read_yaml(text, "it", "mend it"), object)


@LIGHT
@given(value=values)
def test_any_value_is_shown_in_one_short_line(value: Any) -> None:
    assert len(shown(value)) <= 60
    assert "\n" not in shown(value)


RECORD = {
    "format": 1, "name": "a", "created": "now", "source": {"name": "a", "sha256": "b", "size_bytes": 1},
    "consent": "", "preset": "draft", "settings": {},
}  # fmt: skip


@LIGHT
@given(key=st.sampled_from([*RECORD, "other"]), value=values)
def test_any_subject_is_read_or_refused(tmp_path: Path, key: str, value: Any) -> None:
    path = tmp_path / "subject.yaml"
    path.write_text(json.dumps({**RECORD, key: value}), encoding="utf-8")
    reads_or_refuses(lambda: load_record(path), SubjectRecord)


@LIGHT
@given(data=st.binary(max_size=300))
def test_any_bytes_are_no_subject_job_bundle_or_checkpoint(tmp_path: Path, data: bytes) -> None:
    path = tmp_path / "file"
    path.write_bytes(data)
    for read in (load_record, load_job, Track.load, load_json, Archive, lambda it: load_checkpoint(it, "head")):
        reads_or_refuses(lambda read=read: read(path), (dict, Archive))  # type: ignore[misc]


@LIGHT
@given(
    key=st.sampled_from(
        ["format", "subject", "eyes", "view_deg", "size_px", "background_colour", "pose", "speech", "x"]
    ),
    value=values,
)
def test_any_job_is_read_or_refused(tmp_path: Path, key: str, value: Any) -> None:
    path = tmp_path / "job.json"
    path.write_text(json.dumps({"format": 1, "subject": "a", key: value}), encoding="utf-8")
    reads_or_refuses(lambda: load_job(path), SpeechJob)


def npz(members: dict[str, bytes]) -> bytes:
    data = io.BytesIO()
    with zipfile.ZipFile(data, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in members.items():
            archive.writestr(f"{name}.npy", content)
    return data.getvalue()


def npy(array: Any, shape: str | None = None) -> bytes:
    """An array as numpy writes it, with another shape in its header if one is given."""
    data = io.BytesIO()
    np.save(data, array, allow_pickle=True)
    if shape is None:
        return data.getvalue()
    header = f"{{'descr': '<f4', 'fortran_order': False, 'shape': {shape}, }}"
    header += " " * (63 - (10 + len(header)) % 64) + "\n"
    return b"\x93NUMPY\x01\x00" + struct.pack("<H", len(header)) + header.encode() + bytes(64)


FEATURES = {
    "values": npy(np.zeros((4, 8), np.float32)), "level_db": npy(np.zeros(4, np.float32)),
    "front_end": npy(np.asarray("logmel")), "model": npy(np.asarray("")),
}  # fmt: skip


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("values", npy(None, "(1000000000000, 8)")),
        ("values", npy(None, "(1000000, 1000000)")),
        ("values", npy(None, "(-1, 8)")),
        ("values", npy(None, "(4, 8, ")),
        ("values", npy(None, "__import__('os')")),
        ("values", npy(np.zeros((4, 8)))),
        ("values", npy(np.zeros((4, 8), np.float32))[:90]),
        ("values", npy(np.array([{"a": 1}], dtype=object))),
        ("values", npy(np.full((4, 8), np.nan, np.float32))),
        ("level_db", npy(np.zeros(5, np.float32))),
        ("front_end", npy(np.array([{"a": 1}], dtype=object))),
        ("front_end", npy(np.asarray(7))),
        ("front_end", npy(np.asarray(["a", "b"]))),
        ("front_end", npy(np.asarray("x" * 100_000))),
        ("values", b""),
        ("values", b"\x93NUMPY\x09\x00"),
    ],
)
def test_a_bundle_with_a_false_header_is_refused_before_memory_is_taken(
    tmp_path: Path, name: str, content: bytes
) -> None:
    path = tmp_path / "features.npz"
    path.write_bytes(npz({**FEATURES, name: content}))
    with pytest.raises(BadInput, match="is damaged"):
        AudioFeatures.load(path)
    path.write_bytes(npz(FEATURES))
    assert len(AudioFeatures.load(path).values) == 4


@LIGHT
@given(place=st.integers(0, 10_000), byte=st.integers(0, 255), cut=st.booleans())
def test_a_bundle_with_a_changed_byte_is_read_or_refused(tmp_path: Path, place: int, byte: int, cut: bool) -> None:
    data = bytearray(npz(FEATURES))
    place %= len(data)
    data[place] = byte
    path = tmp_path / "features.npz"
    path.write_bytes(data[:place] if cut else data)
    reads_or_refuses(lambda: AudioFeatures.load(path), AudioFeatures)
    reads_or_refuses(lambda: Landmarks.load(path), Landmarks)


@pytest.mark.parametrize(
    ("name", "kind", "size"),
    [("../000000.jpg", zipfile.ZIP_STORED, 9), ("/etc/passwd", zipfile.ZIP_STORED, 9),
     ("a\\b.jpg", zipfile.ZIP_STORED, 9), (".hidden", zipfile.ZIP_STORED, 9),
     ("000000.jpg", zipfile.ZIP_DEFLATED, 50_000_000)],
)  # fmt: skip
def test_an_archive_with_strange_members_is_refused(tmp_path: Path, name: str, kind: int, size: int) -> None:
    path = tmp_path / "frames.zip"
    with zipfile.ZipFile(path, "w", kind) as archive:
        archive.writestr(name, bytes(size))
    with pytest.raises(BadInput, match="which is no frame"):
        Archive(path)


@pytest.fixture(scope="module")
def head_bytes(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    return tiny_subject.make_subject(tmp_path_factory.mktemp("head") / "subject").head.read_bytes()


@settings(LIGHT, max_examples=40)
@given(place=st.integers(0, 6000), byte=st.integers(0, 255))
def test_a_checkpoint_with_a_changed_byte_is_read_or_refused(head_bytes: bytes, place: int, byte: int) -> None:
    data = bytearray(head_bytes)
    data[place % len(data)] = byte
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "head.safetensors"
        path.write_bytes(data)
        reads_or_refuses(lambda: load_head(path, "reference"), tuple)


@settings(LIGHT, max_examples=25)
@given(
    key=st.sampled_from(["features", "frames", "mouth", "audio_code", "hidden_width", "occupancy_resolution", "space",
                         "samples_per_ray", "min_step_cm", "backbone", "other"]),
    value=values | st.sampled_from([10**12, 2**40, {"dimensions": 3, "levels": 24, "log2_entries": 24}]),
)  # fmt: skip
def test_a_checkpoint_whose_header_lies_is_read_or_refused(head_bytes: bytes, key: str, value: Any) -> None:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "head.safetensors"
        path.write_bytes(head_bytes)
        header, tensors = load_checkpoint(path, "head")
        header["shape"][key] = None if isinstance(value, float) and not np.isfinite(value) else value
        try:
            save_checkpoint(path, "head", header, tensors)
        except ValueError:
            return  # JSON has no NaN, however deep
        reads_or_refuses(lambda: load_head(path, "reference"), tuple)


def test_a_header_that_claims_more_than_the_file_holds_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "head.safetensors"
    header = json.dumps({"x": {"dtype": "F32", "shape": [10**12], "data_offsets": [0, 4 * 10**12]}}).encode()
    path.write_bytes(struct.pack("<Q", len(header)) + header + bytes(16))
    with pytest.raises(BadInput, match="is damaged"):
        load_checkpoint(path, "head")
    path.write_bytes(struct.pack("<Q", 10**15) + header)
    with pytest.raises(BadInput, match="is damaged"):
        load_checkpoint(path, "head")
    path.write_bytes(save({"x": torch.zeros(1)}, {"radnerf": "[" * 100_000}))
    with pytest.raises(BadInput, match="is damaged"):
        load_checkpoint(path, "head")


@LIGHT
@given(tree=st.recursive(
    st.none() | st.booleans() | st.integers(-(2**53), 2**53) | st.floats(allow_nan=False) | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5) | st.integers(), inner, max_size=3),
    max_leaves=10,
))  # fmt: skip
def test_what_was_flattened_comes_back(tree: Any) -> None:
    skeleton, tensors = flatten(tree)
    assert unflatten(json.loads(json.dumps(skeleton)), tensors) == tree


def test_every_stage_of_the_settings_is_fuzzed_by_name() -> None:
    assert {stage for stage, _ in KEYS} - {"nose"} <= set(STAGES)


def test_features_that_claim_more_than_there_is_are_not_unpacked(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "features.npz"
    path.write_bytes(npz({**FEATURES, "voiced": npy(None, "(1000000000000,)")}))
    with pytest.raises(BadInput, match="is damaged"), open_features(path):
        pass
    # Zeros that are packed a thousand to one.
    path.write_bytes(npz({**FEATURES, "values": npy(np.zeros((1_000_000, 8), np.float32))}))
    assert path.stat().st_size < 100_000
    monkeypatch.setattr("stages.hearing.shutil.disk_usage", lambda _: SimpleNamespace(free=31_000_000))
    with pytest.raises(RadnerfError, match="the audio features take"), open_features(path):
        pass


PICTURE_BOMB = """\
import resource, sys
from pathlib import Path
from stages.errors import BadInput
from stages.vision.images import decode_rgb
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
try:
    decode_rgb(Path(sys.argv[1]).read_bytes(), Path("a.png"))
except BadInput as error:
    print(error.message, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before)
"""


def test_a_picture_that_claims_huge_sizes_takes_no_memory(tmp_path: Path) -> None:
    def chunk(name: bytes, body: bytes) -> bytes:
        return struct.pack(">I", len(body)) + name + body + struct.pack(">I", zlib.crc32(name + body))

    rows = zlib.compress(bytes(3 * 20_000 * 2_000))
    header = struct.pack(">IIBBBBB", 20_000, 20_000, 8, 2, 0, 0, 0)
    path = tmp_path / "a.png"
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", rows) + chunk(b"IEND", b""))
    command = [sys.executable, "-c", PICTURE_BOMB, str(path)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert done.stdout.startswith("a.png holds a damaged picture "), done.stdout + done.stderr
    assert int(done.stdout.split()[-1]) < 50_000
