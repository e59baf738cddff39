"""What a video says about itself, and that nobody can change it unnoticed."""

from __future__ import annotations

import datetime as dt
import multiprocessing
import stat
from pathlib import Path

import numpy as np
import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec

from stages import provenance, signing_key
from stages.errors import BadInput, RadnerfError
from stages.media import VideoWriter
from stages.provenance import Statement, container_metadata, read_provenance, sign_video
from stages.signing_key import Credentials, local_credentials, signing_folder

STATEMENT = Statement(
    subject="anchor 主播",
    model_version="head 3f2a",
    consent='She said "yes", in writing',
    radnerf_version="0.1.0",
    made_at=dt.datetime(2026, 11, 21, 12, 0, 0, 250, tzinfo=dt.timezone(dt.timedelta(hours=2))),
)


@pytest.fixture(autouse=True)
def own_data_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A signing folder of the test's own."""
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "data"))
    return tmp_path / "data"


@pytest.fixture(scope="module")
def plain_video(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    """One second of noise."""
    path = tmp_path_factory.mktemp("video") / "plain.mp4"
    rng = np.random.default_rng(0)
    with VideoWriter(path, (64, 64), 25, metadata=container_metadata("anchor", "head 3f2a", "")) as writer:
        for _ in range(25):
            writer.write(rng.integers(0, 256, (64, 64, 3), np.uint8))
    return path.read_bytes()


@pytest.fixture
def video(tmp_path: Path, plain_video: bytes) -> Path:
    path = tmp_path / "a video.mp4"
    path.write_bytes(plain_video)
    return path


def test_manifest_says_what_was_stated(video: Path) -> None:
    sign_video(video, STATEMENT)
    found = read_provenance(video)
    assert found is not None
    assert found.intact
    assert found.signed_here
    assert found.synthetic
    assert (found.subject, found.model_version, found.consent) == ("anchor 主播", "head 3f2a", STATEMENT.consent)
    assert (found.software, found.made_at, found.problems) == ("radnerf 0.1.0", "2026-11-21T10:00:00Z", ())
    assert sorted(path.name for path in video.parent.iterdir()) == ["a video.mp4", "data"]


def test_signed_video_still_holds_its_pictures(video: Path) -> None:
    from stages.media import probe, read_video

    before = list(read_video(probe(video), [], (64, 64)))
    sign_video(video, STATEMENT)
    after = list(read_video(probe(video), [], (64, 64)))
    np.testing.assert_array_equal(before, after)
    assert len(after) == 25


def test_video_without_manifest_says_nothing(video: Path) -> None:
    assert read_provenance(video) is None


@pytest.mark.parametrize("share", [0.5, 0.7, 0.99])
def test_one_changed_bit_of_the_content_is_noticed(video: Path, plain_video: bytes, share: float) -> None:
    sign_video(video, STATEMENT)
    data = bytearray(video.read_bytes())
    # The content lies at the end, behind the manifest.
    data[-round(len(plain_video) * (1 - share)) - 1] ^= 1
    video.write_bytes(data)
    found = read_provenance(video)
    assert found is not None
    assert not found.intact
    assert not found.signed_here
    assert found.problems


def test_a_change_in_any_piece_of_a_long_video_is_noticed(tmp_path: Path) -> None:
    path = tmp_path / "long.mp4"
    rng = np.random.default_rng(1)
    with VideoWriter(path, (320, 320), 25, crf=10, preset="ultrafast") as writer:
        for _ in range(30):
            writer.write(rng.integers(0, 256, (320, 320, 3), np.uint8))
    sign_video(path, STATEMENT)
    data = path.read_bytes()
    assert len(data) > 2_500_000
    for at in (len(data) - 1, len(data) - 1_100_000, len(data) - 2_200_000):
        path.write_bytes(data[:at] + bytes([data[at] ^ 1]) + data[at + 1 :])
        found = read_provenance(path)
        assert found is not None
        assert not found.intact
    path.write_bytes(data)
    found = read_provenance(path)
    assert found is not None
    assert found.intact


def test_a_changed_statement_is_noticed(video: Path) -> None:
    sign_video(video, STATEMENT)
    data = video.read_bytes()
    assert data.count(b"in writing") == 1
    video.write_bytes(data.replace(b"in writing", b"in wRiting"))
    found = read_provenance(video)
    assert found is not None
    assert not found.intact
    assert found.problems


def test_a_damaged_manifest_is_noticed(video: Path) -> None:
    sign_video(video, STATEMENT)
    data = video.read_bytes()
    at = data.index(b"c2pa.claim")
    video.write_bytes(data[: at - 20] + bytes(30) + data[at + 10 :])
    found = read_provenance(video)
    assert found is None or not found.intact


def test_another_machines_signature_is_intact_yet_not_ours(
    video: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sign_video(video, STATEMENT)
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "elsewhere"))
    for _ in range(2):
        found = read_provenance(video)
        assert found is not None
        assert (found.intact, found.signed_here, found.problems) == (True, False, ())
        local_credentials()


def test_key_is_readable_by_its_owner_alone_and_kept() -> None:
    first = local_credentials()
    assert stat.S_IMODE(first.key.stat().st_mode) == 0o600
    assert stat.S_IMODE(signing_folder().stat().st_mode) == 0o700
    key = first.key.read_bytes()
    assert local_credentials().key.read_bytes() == key
    assert len(list(signing_folder().parent.iterdir())) == 1


def test_an_expired_certificate_is_replaced(monkeypatch: pytest.MonkeyPatch, video: Path) -> None:
    monkeypatch.setattr(signing_key, "_DAYS", 0)
    old = local_credentials().key.read_bytes()
    monkeypatch.setattr(signing_key, "_DAYS", 30)
    sign_video(video, STATEMENT)
    assert local_credentials().key.read_bytes() != old
    found = read_provenance(video)
    assert found is not None
    assert found.signed_here


def test_a_damaged_key_is_named(video: Path, plain_video: bytes) -> None:
    local_credentials().key.write_text("nonsense")
    with pytest.raises(RadnerfError, match="damaged"):
        sign_video(video, STATEMENT)
    assert video.read_bytes() == plain_video


def _make_key(_: int) -> bytes:
    return local_credentials().key.read_bytes()


def test_two_processes_agree_on_one_key() -> None:
    with multiprocessing.get_context("fork").Pool(4) as pool:
        keys = set(pool.map(_make_key, range(8), chunksize=1))
    assert len(keys) == 1


def test_given_credentials_sign(video: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made = local_credentials()
    given = Credentials(tmp_path / "mine.crt", tmp_path / "mine.key")
    given.certificates.write_bytes(made.certificates.read_bytes())
    given.key.write_bytes(made.key.read_bytes())
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "unused"))
    sign_video(video, STATEMENT, given)
    assert not signing_folder().exists()
    found = read_provenance(video)
    assert found is not None
    assert found.intact


def test_unusable_credentials_are_refused(video: Path, tmp_path: Path, plain_video: bytes) -> None:
    made = local_credentials()
    missing = Credentials(tmp_path / "no.crt", made.key)
    no_key = Credentials(made.certificates, made.certificates)
    stranger = tmp_path / "stranger.key"
    stranger.write_bytes(
        ec.generate_private_key(ec.SECP256R1()).private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        )
    )
    for credentials in (missing, no_key, Credentials(made.certificates, stranger)):
        with pytest.raises(BadInput):
            sign_video(video, STATEMENT, credentials)
        assert video.read_bytes() == plain_video
    assert not list(video.parent.glob(".*part*"))


def test_other_files_are_refused(tmp_path: Path) -> None:
    (tmp_path / "text.mp4").write_text("no video")
    for name in ("text.mp4", "missing.mp4"):
        with pytest.raises(BadInput):
            read_provenance(tmp_path / name)
        with pytest.raises(BadInput):
            sign_video(tmp_path / name, STATEMENT)


def test_container_metadata_says_synthetic_on_one_line(plain_video: bytes) -> None:
    metadata = container_metadata("anchor", "head 3f2a", "line one\nline two")
    assert provenance.NOTICE in metadata["comment"]
    assert "line one line two" in metadata["comment"]
    assert not any("\n" in value for value in metadata.values())
    assert provenance.NOTICE.encode() in plain_video
