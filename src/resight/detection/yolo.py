"""The inputs and outputs of YOLO networks: a picture in its frame, and rows of numbers that are boxes.

Three layouts are known, each for one picture, with boxes in pixels of the frame:

- ``anchors`` (1, N, 5 + classes), YOLOv5 and with it MegaDetector v5: centre x, centre y, width, height, how sure it is
  that there is anything, and of each class;
- ``channels`` (1, 4 + classes, N), YOLOv8 and later, MegaDetector v6: centre x, centre y, width, height, each class;
- ``end to end`` (1, N, 6), YOLOv10 and exports that choose among boxes themselves: left, top, right, bottom,
  confidence, class.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from resight.catalogue.sources.megadetector import is_animal
from resight.detection.detector import CATEGORIES, LEAST_CONFIDENCE
from resight.errors import InputError

FRAME_GREY = 114  # what the networks were trained to see around a picture
OVERLAP = 0.45  # of two boxes (intersection over union) above which the less sure one is the same animal again
MOST_CANDIDATES = 30_000  # the surest; an untrained network would give every place of a large frame

Layout = Literal["anchors", "channels", "end to end"]

_STRIDES = ((8, 16, 32), (8, 16, 32, 64))
_ANCHORS = 3  # boxes a place in YOLOv5
_ROUNDING = 0.01  # of a confidence, in float16
_ANEW = "as exports of YOLO that choose among boxes themselves have them: export it anew"


@dataclass(frozen=True)
class Candidates:
    """Boxes that a network gives.

    Attributes:
        corners: (n, 4) float32: left, top, right, bottom.
        confidences: (n,) float32, from 0 to 1.
        classes: (n,) int64.
    """

    corners: NDArray[np.float32]
    confidences: NDArray[np.float32]
    classes: NDArray[np.int64]

    def __getitem__(self, chosen: NDArray[np.int64] | NDArray[np.bool_]) -> Candidates:
        """Some of them, in this order."""
        return Candidates(self.corners[chosen], self.confidences[chosen], self.classes[chosen])


def letterbox(pixels: NDArray[np.uint8], width: int, height: int) -> tuple[NDArray[np.uint8], int, int]:
    """Put a picture in the middle of a grey frame.

    Args:
        pixels: (h, w, 3), not larger than the frame.
        width: Of the frame.
        height: Of the frame.

    Returns:
        (height, width, 3); and how many columns lie left of the picture and how many rows above it.
    """
    frame = np.full((height, width, 3), FRAME_GREY, np.uint8)
    left, top = (width - pixels.shape[1]) // 2, (height - pixels.shape[0]) // 2
    frame[top : top + pixels.shape[0], left : left + pixels.shape[1]] = pixels
    return frame, left, top


def recognise(shape: tuple[int, ...], classes: int | None, width: int, height: int) -> Layout:
    """Which layout an output has.

    Args:
        shape: Of the output for one picture.
        classes: How many the network tells apart, where it says so.
        width: Of the frame.
        height: Of the frame.

    Raises:
        InputError: it is none of them.
    """
    if len(shape) == 3 and shape[0] == 1:
        _, rows, columns = shape
        has_anchors = rows in {
            _ANCHORS * sum((width // stride) * (height // stride) for stride in strides) for strides in _STRIDES
        }
        if columns == 6 and not (has_anchors and classes in (None, 1)):
            return "end to end"
        # What is beyond named classes are masks; what is beyond MegaDetector's, where none are named, may be anything.
        if _holds(rows - 4, classes) and rows < columns:
            return "channels"
        if _holds(columns - 5, classes) and rows > columns and (has_anchors or classes is not None):
            return "anchors"
    known = f" without names for at most {len(CATEGORIES)} classes" if classes is None else f" for {classes} classes"
    raise InputError(
        f"its output has the shape {list(shape)}; expected one picture as [1, N, 5 + classes] (YOLOv5), "
        f"[1, 4 + classes, N] (YOLOv8) or [1, N, 6] (end to end){known}; export the detector anew"
    )


def _holds(scores: int, classes: int | None) -> bool:
    return 1 <= scores <= len(CATEGORIES) if classes is None else scores >= classes


def candidates(output: NDArray[np.float32], layout: Layout, classes: int | None) -> Candidates:
    """The boxes of an output that are not noise, the surest first.

    Args:
        output: (1, rows, columns).
        layout: From :func:`recognise`.
        classes: How many the network tells apart, where it says so.

    Raises:
        InputError: there are numbers in it that cannot be what the layout says.
    """
    rows = output[0].T if layout == "channels" else output[0]
    if layout == "end to end":
        corners, confidences, labels = rows[:, :4], rows[:, 4], rows[:, 5]
    else:
        first = 4 if layout == "channels" else 5
        scores = rows[:, first : None if classes is None else first + classes]
        labels = scores.argmax(axis=1)
        confidences = scores[np.arange(len(rows)), labels]
        if layout == "anchors":
            confidences = confidences * rows[:, 4]
        centres, halves = rows[:, :2], rows[:, 2:4] / 2
        corners = np.concatenate([centres - halves, centres + halves], axis=1)
    if not (confidences <= 1 + _ROUNDING).all():  # nor is one that is no number
        raise InputError(
            f"its output has a confidence of {confidences.max()}; expected 0 to 1: export the detector anew"
        )
    chosen = np.flatnonzero(confidences >= LEAST_CONFIDENCE)
    chosen = chosen[np.argsort(-confidences[chosen], kind="stable")][:MOST_CANDIDATES]
    if not np.isfinite(corners[chosen]).all():
        raise InputError("its output has boxes that are not finite; export it anew, in float32")
    if not (labels[chosen] == np.rint(labels[chosen])).all():
        raise InputError(f"its output has classes such as {labels[chosen].max()}; expected whole numbers, {_ANEW}")
    return Candidates(
        np.asarray(corners[chosen], np.float32),
        np.asarray(np.minimum(confidences[chosen], 1.0), np.float32),
        np.asarray(labels[chosen], np.int64),
    )


def without_repeats(found: Candidates, names: tuple[str, ...]) -> Candidates:
    """Of the boxes that overlap by more than :data:`OVERLAP` only the surest.

    Animals of all species are one group: one animal is not two for being taken for two species. A person on an animal
    leaves the animal.

    Args:
        found: Whatever order.
        names: Of the classes.
    """
    import torch
    from torchvision.ops import batched_nms

    groups = np.array([0 if is_animal(name) else 1 + n for n, name in enumerate(names)], np.int64)[found.classes]
    kept = batched_nms(
        torch.from_numpy(found.corners), torch.from_numpy(found.confidences), torch.from_numpy(groups), OVERLAP
    )
    return found[kept.numpy()]
