"""A subject is a folder; this module spells every path in it, once."""

from __future__ import annotations

import os
import re
from dataclasses import dataclass
from pathlib import Path

from stages.errors import BadInput

FORMAT_VERSION = 1
"""Version of the subject folder's layout and files, kept in ``subject.yaml``."""

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,63}")


@dataclass(frozen=True)
class SpeechFolder:
    """The files of one speech of one subject: the job, its sound, its features, its video."""

    root: Path

    @property
    def lock(self) -> Path:
        """Who is working on this speech."""
        return self.root / ".lock"

    @property
    def job(self) -> Path:
        """What was asked for: speech, background, eyes, view, pose source (JSON)."""
        return self.root / "job.json"

    @property
    def source(self) -> Path:
        """The user's own audio file, byte for byte, whatever its format."""
        return self.root / "speech"

    @property
    def features(self) -> Path:
        """Audio features of the speech (npz)."""
        return self.root / "features.npz"

    @property
    def video(self) -> Path:
        """The finished video."""
        return self.root / "video.mp4"

    @property
    def cutout(self) -> Path:
        """The portrait without background: ProRes 4444 with alpha; only where the job asks for it."""
        return self.root / "video.mov"

    @property
    def stills(self) -> Path:
        """The portrait without background: ``000000.png`` … with alpha (zip); only where the job asks for them."""
        return self.root / "stills.zip"

    @property
    def summary(self) -> Path:
        """Frames, seconds, rate and peak memory of the rendering (JSON)."""
        return self.root / "video.json"


@dataclass(frozen=True)
class Workspace:
    """The paths of one subject.

    Attributes:
        root: The subject's folder, ``subjects/<name>``.
    """

    root: Path

    @property
    def subject(self) -> Path:
        """Settings that the user may edit, provenance and consent (YAML)."""
        return self.root / "subject.yaml"

    @property
    def given(self) -> Path:
        """Which stages' files came from elsewhere and are not made here (JSON); only in such a subject."""
        return self.root / "given.json"

    def settings(self, stage: str) -> Path:
        """The resolved settings of one stage (JSON); rewritten only when they change."""
        return self.root / "settings" / f"{stage}.json"

    @property
    def source(self) -> Path:
        """The user's own video, byte for byte."""
        return self.root / "source" / "video"

    @property
    def frames(self) -> Path:
        """Square frames at 25 fps: ``000000.jpg`` … in an uncompressed zip."""
        return self.root / "frames" / "frames.zip"

    @property
    def frames_info(self) -> Path:
        """Count, size, crop and what the source was (JSON)."""
        return self.root / "frames" / "frames.json"

    @property
    def audio(self) -> Path:
        """The clip's sound, 16 kHz mono 16-bit WAV, beginning with frame 0."""
        return self.root / "frames" / "audio.wav"

    @property
    def landmarks(self) -> Path:
        """478 face landmarks a frame (npz)."""
        return self.root / "landmarks" / "landmarks.npz"

    @property
    def parsing(self) -> Path:
        """Class maps: ``000000.png`` … in a zip."""
        return self.root / "parsing" / "parsing.zip"

    @property
    def background(self) -> Path:
        """The static background, RGB PNG."""
        return self.root / "background" / "background.png"

    @property
    def layers(self) -> Path:
        """True frames over the static background, and the torso layer with its alpha (zip)."""
        return self.root / "background" / "layers.zip"

    @property
    def track(self) -> Path:
        """Camera, head pose, eyes and mouth a frame (npz)."""
        return self.root / "pose" / "track.npz"

    @property
    def features(self) -> Path:
        """Audio features at 50 Hz (npz)."""
        return self.root / "audio" / "features.npz"

    @property
    def prepared(self) -> Path:
        """What preparation found, for people and for ``prepare --json`` (JSON)."""
        return self.root / "prepared.json"

    @property
    def head(self) -> Path:
        """The trained head (safetensors)."""
        return self.root / "head" / "head.safetensors"

    @property
    def head_state(self) -> Path:
        """What resuming the head's training needs (safetensors); may be deleted."""
        return self.root / "head" / "state.safetensors"

    @property
    def head_history(self) -> Path:
        """Loss, PSNR and rate over the head's training (JSON)."""
        return self.root / "head" / "history.json"

    @property
    def torso(self) -> Path:
        """The trained torso (safetensors)."""
        return self.root / "torso" / "torso.safetensors"

    @property
    def torso_state(self) -> Path:
        """What resuming the torso's training needs (safetensors); may be deleted."""
        return self.root / "torso" / "state.safetensors"

    @property
    def torso_history(self) -> Path:
        """Loss, PSNR and rate over the torso's training (JSON)."""
        return self.root / "torso" / "history.json"

    @property
    def evaluation(self) -> Path:
        """Figures on the held-out frames (JSON)."""
        return self.root / "evaluation" / "evaluation.json"

    @property
    def evaluation_series(self) -> Path:
        """Lips, eyes and PSNR of each held-out frame, true and rendered (JSON)."""
        return self.root / "evaluation" / "series.json"

    @property
    def evaluation_pictures(self) -> Path:
        """The held-out frames, true and rendered: ``000455.truth.jpg``, ``.head.jpg``, ``.composite.jpg`` (zip)."""
        return self.root / "evaluation" / "pictures.zip"

    @property
    def report(self) -> Path:
        """One page that shows how good the portrait is (HTML)."""
        return self.root / "report.html"

    @property
    def preview(self) -> Path:
        """Contact sheet of true and rendered frames (PNG)."""
        return self.root / "preview.png"

    @property
    def cache(self) -> Path:
        """Rebuildable memory maps; may be deleted at any time."""
        return self.root / "cache"

    @property
    def lock(self) -> Path:
        """Who is working on this subject."""
        return self.root / ".lock"

    def log(self, stage: str) -> Path:
        """What a stage wrote to standard error."""
        return self.root / "logs" / f"{stage}.log"

    def benchmark(self, stage: str) -> Path:
        """Time and memory of a stage, as Snakemake measured them (TSV)."""
        return self.root / "benchmarks" / f"{stage}.tsv"

    def speech(self, speech_id: str) -> SpeechFolder:
        """The folder of one speech.

        Args:
            speech_id: A safe name made by the command line from the speech file's name and content.
        """
        return SpeechFolder(self.root / "speech" / speech_id)


def check_name(name: str) -> str:
    """Return a subject's name if it can be a folder's name.

    Raises:
        BadInput: It is empty, too long, or holds other characters than letters, digits, ``_``, ``.`` and ``-``.
    """
    if not _NAME.fullmatch(name):
        raise BadInput(
            f"{name!r} cannot be a subject's name",
            hint="use letters, digits, '_', '.' and '-', beginning with a letter or digit, 64 at most",
        )
    return name


def open_subject(home: Path, name: str) -> Workspace:
    """The workspace of a subject that exists.

    Args:
        home: The folder that holds ``subjects/``.
        name: The subject's name.

    Raises:
        BadInput: There is no such subject.
    """
    workspace = Workspace(home / "subjects" / check_name(name))
    if not workspace.subject.is_file():
        there = sorted(path.parent.name for path in (home / "subjects").glob("*/subject.yaml"))
        known = f"there are: {', '.join(there)}" if there else "there is none yet"
        # Files are easily given where the subject comes first.
        next_step = (
            "a subject is given by its name" if Path(name).suffix else f"'radnerf prepare VIDEO --name {name}' makes it"
        )
        raise BadInput(f"there is no subject {name!r} under {home / 'subjects'}", hint=f"{known}; {next_step}")
    check_contained(workspace)
    return workspace


def check_contained(workspace: Workspace) -> None:
    """Make sure that no link in a subject leads out of its folder, since a subject may come from a stranger.

    The folder itself may be a link.

    Raises:
        BadInput: One does, or leads nowhere.
    """
    root = Path(os.path.realpath(workspace.root))
    for folder, below, files in os.walk(root):
        for name in (*below, *files):
            path = Path(folder, name)
            if path.is_symlink() and not Path(os.path.realpath(path)).is_relative_to(root):
                raise BadInput(
                    f"{path} is a link that leads out of the subject", hint="put the file itself there, or delete it"
                )
