"""A tiny subject that is complete: it can be asked to speak by every command that speaks."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import torch

from cli.subject import describe_source, new_record, save_record
from radnerf.model import HeadModel
from stages.atomic_files import save_json
from stages.formats import AudioFeatures
from stages.head_file import load_head, save_head
from stages.settings import HeadSettings
from stages.sound.logmel import BANDS
from stages.workspace import Workspace
from tests.tiny_subject import SIZE_PX, make_features, make_subject


def make_speaking_subject(home: Path, name: str = "anna", consent: str = "Anna, by mail") -> Workspace:
    """Write an untrained head and torso of 48 pixels, which hear what the usual front end makes of sound.

    Args:
        home: The folder that holds ``subjects/``.
        name: The subject's.
        consent: The note.
    """
    workspace = make_subject(home / "subjects" / name)
    source = home / "clip.mp4"
    source.write_bytes(b"clip")
    workspace.subject.unlink()
    record = new_record(name, describe_source(source), consent)
    save_record(workspace.subject, record.changed(preset="draft", assignments={"render": {"crf": 30}}))
    head, _ = load_head(workspace.head)
    shape = dataclasses.replace(head.shape, features=BANDS)
    torch.manual_seed(0)
    heard: AudioFeatures = make_features(2)
    save_head(workspace.head, HeadModel(shape, head.aabb), HeadSettings(size_px=SIZE_PX), heard)
    for path in (workspace.head_history, workspace.torso_history):
        save_json(path, {})
    return workspace
