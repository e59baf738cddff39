"""Parsers: what says how surely each pixel is background, hair, skin or cloth.

A parser is learnt from a few frames of a clip and then asked frame by frame. ``PARSERS`` names them; a new one
needs a class with ``shares`` and a function in the registry.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

import cv2
import numpy as np
import numpy.typing as npt

from stages.errors import BadInput
from stages.vision.colour_model import ColourModel, Sample, learn_colours
from stages.vision.face_mesh import brings_models, mediapipe, silenced, without_models
from stages.vision.head_frame import HeadFrame
from stages.vision.models import MULTICLASS_SEGMENTER, SELFIE_SEGMENTER, find_model
from stages.vision.scene_model import SceneModel, learn_scene

Float32 = npt.NDArray[np.float32]
UInt8 = npt.NDArray[np.uint8]

_EDGE = 1e-3


class Parser(Protocol):
    """Says what each pixel of a frame is made of. It must survive pickling, to be sent to another process."""

    def shares(self, rgb: UInt8, head: HeadFrame) -> Float32:
        """How surely each pixel is background, hair, skin or cloth.

        Args:
            rgb: (S, S, 3) uint8.
            head: Where the head is.

        Returns:
            (S, S, 4) float32, non-negative, sum 1.
        """
        ...


class PersonSegmenter:
    """MediaPipe's selfie segmentation, opened when first used: the bundled model, or a file where none is bundled."""

    def __init__(self) -> None:
        """Remember nothing; the model is opened later."""
        self._look: Callable[[UInt8], Float32] | None = None

    def __reduce__(self) -> tuple[type[PersonSegmenter], tuple[()]]:
        """Pickle as a closed one."""
        return PersonSegmenter, ()

    def person(self, rgb: UInt8) -> Float32:
        """(S, S) float32 in [0, 1], how surely a pixel belongs to a person, for a (S, S, 3) uint8 frame.

        Raises:
            BadInput: MediaPipe brings no models, and the file is not there or is another model.
        """
        if self._look is None:
            self._look = _open_bundled_selfie(rgb) if brings_models() else _open_selfie_file()
        return np.clip(self._look(rgb), 0, 1)


def _open_bundled_selfie(rgb: UInt8) -> Callable[[UInt8], Float32]:
    package = mediapipe()
    with silenced():
        solution = package.solutions.selfie_segmentation.SelfieSegmentation(model_selection=0)
        solution.process(rgb)  # the graph's threads start, and talk, with the first picture

    def look(picture: UInt8) -> Float32:
        mask: Float32 = solution.process(picture).segmentation_mask
        return mask

    return look


def _open_selfie_file() -> Callable[[UInt8], Float32]:
    model = find_model(SELFIE_SEGMENTER)
    if model is None:
        raise without_models(f"{SELFIE_SEGMENTER} or {MULTICLASS_SEGMENTER}")
    segmenter = _open_segmenter(model, SELFIE_SEGMENTER)

    def look(picture: UInt8) -> Float32:
        masks = _confidences(segmenter, picture)
        if masks.shape[2] > 2:
            raise BadInput(f"{model} tells {masks.shape[2]} classes apart", hint=f"give MediaPipe's {SELFIE_SEGMENTER}")
        # One mask is the person; of two the first is what is behind.
        return np.asarray(masks[..., -1])

    return look


@dataclass
class SelfieParser:
    """Person from selfie segmentation and the clip's still scene; materials from the clip's colours and places."""

    colours: ColourModel
    scene: SceneModel
    segmenter: PersonSegmenter = field(default_factory=PersonSegmenter)

    def shares(self, rgb: UInt8, head: HeadFrame) -> Float32:
        """See ``Parser.shares``."""
        guess = np.clip(self.segmenter.person(rgb), _EDGE, 1 - _EDGE)
        odds = np.log(guess / (1 - guess)) + self.scene.log_odds(rgb)
        person = 1 / (1 + np.exp(-odds))
        materials = cv2.split(self.colours.shares(rgb, head))
        return np.asarray(cv2.merge([1 - person, *(plane * person for plane in materials)]), np.float32)


@dataclass
class MulticlassParser:
    """MediaPipe's multiclass selfie segmenter (background, hair, body skin, face skin, clothes, others)."""

    model: Path
    _segmenter: Any = field(default=None, repr=False)

    def __reduce__(self) -> tuple[type[MulticlassParser], tuple[Path]]:
        """Pickle as a closed one."""
        return MulticlassParser, (self.model,)

    def shares(self, rgb: UInt8, head: HeadFrame) -> Float32:
        """See ``Parser.shares``."""
        if self._segmenter is None:
            self._segmenter = _open_segmenter(self.model, MULTICLASS_SEGMENTER)
        return multiclass_to_shares(_confidences(self._segmenter, rgb), head)


def _confidences(segmenter: Any, rgb: UInt8) -> Float32:  # noqa: ANN401 - MediaPipe has no types
    """(S, S, C) float32, what the Tasks segmenter says of each pixel of a (S, S, 3) uint8 frame."""
    package = mediapipe()
    image = package.Image(image_format=package.ImageFormat.SRGB, data=np.ascontiguousarray(rgb))
    masks = [np.asarray(mask.numpy_view(), np.float32) for mask in segmenter.segment(image).confidence_masks]
    return np.stack(masks, axis=-1).reshape(*rgb.shape[:2], -1)


def multiclass_to_shares(confidences: Float32, head: HeadFrame) -> Float32:
    """Fold the multiclass model's six classes into background, hair, skin and cloth.

    What it calls "others" is glasses, ear-rings or a hat above the jaw, and jewellery or a microphone below.

    Args:
        confidences: (S, S, 6) float32: background, hair, body skin, face skin, clothes, others.
        head: Where the head is.

    Returns:
        (S, S, 4) float32, sum 1.

    Raises:
        BadInput: The model has another number of classes.
    """
    if confidences.shape[2] != 6:
        raise BadInput(
            f"the segmenter has {confidences.shape[2]} classes, not 6", hint=f"give MediaPipe's {MULTICLASS_SEGMENTER}"
        )
    background, hair, body, face, clothes, others = np.moveaxis(confidences, 2, 0)
    above = head.above_jaw(confidences.shape[0]).astype(np.float32)
    shares = np.stack([background, hair + others * above, body + face, clothes + others * (1 - above)], axis=2)
    normalised: Float32 = shares / np.maximum(shares.sum(axis=2, keepdims=True), 1e-6)
    return normalised


def _open_segmenter(model: Path, wanted: str) -> Any:  # noqa: ANN401 - MediaPipe has no types
    tasks = mediapipe().tasks
    options = tasks.vision.ImageSegmenterOptions(
        base_options=tasks.BaseOptions(model_asset_buffer=model.read_bytes()), output_confidence_masks=True
    )
    try:
        with silenced():
            return tasks.vision.ImageSegmenter.create_from_options(options)
    except (RuntimeError, ValueError) as error:
        reason = str(error).splitlines()[0]
        raise BadInput(f"{model} is no segmentation model: {reason}", hint=f"give MediaPipe's {wanted}") from error


ClipFrame = tuple[UInt8, HeadFrame]
"""A small (S, S, 3) uint8 frame and where its head is."""


def learn_selfie(clip: Sequence[ClipFrame]) -> SelfieParser:
    """A parser made of selfie segmentation and what a few frames tell about the clip."""
    segmenter = PersonSegmenter()
    samples = [Sample(rgb, segmenter.person(rgb), head) for rgb, head in clip]
    return SelfieParser(learn_colours(samples), learn_scene(samples), segmenter)


def open_multiclass(clip: Sequence[ClipFrame]) -> MulticlassParser:
    """A parser that runs the multiclass model; it has nothing to learn from the clip.

    Raises:
        BadInput: The model's file is not there.
    """
    del clip
    model = find_model(MULTICLASS_SEGMENTER)
    if model is None:
        raise BadInput(
            f"{MULTICLASS_SEGMENTER} is not there", hint="choose parsing.model=selfie, or put the file in place"
        )
    return MulticlassParser(model)


PARSERS: dict[str, Callable[[Sequence[ClipFrame]], Parser]] = {
    "multiclass": open_multiclass,
    "selfie": learn_selfie,
}
"""Every parser by the name that ``parsing.model`` gives it: makes one from a few frames of the clip."""


def choose_parser(model: str) -> str:
    """The name of the parser to use: the asked one, or for ``auto`` the best that is present.

    Raises:
        BadInput: There is no such parser, or what it needs is not here.
    """
    if model == "auto":
        model = "multiclass" if find_model(MULTICLASS_SEGMENTER) is not None else "selfie"
    if model == "selfie" and not brings_models() and find_model(SELFIE_SEGMENTER) is None:
        raise without_models(f"{SELFIE_SEGMENTER} or {MULTICLASS_SEGMENTER}")
    if model not in PARSERS:
        raise BadInput(f"unknown parser {model!r}", hint=f"choose one of: auto, {', '.join(PARSERS)}")
    return model


def luminance(rgb: UInt8) -> Float32:
    """(H, W) float32 in [0, 1], the luminance of a (H, W, 3) uint8 picture."""
    grey: Float32 = cv2.cvtColor(rgb, cv2.COLOR_RGB2GRAY).astype(np.float32) / 255
    return grey
