"""A detector in an ONNX file: any network of the YOLO family, run by onnxruntime.

The size of the frame and the names of the classes are read from the file, where its exporter has written them; a file
without names is taken for MegaDetector's.
"""

from __future__ import annotations

import ast
import os
import threading
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from resight.artefacts import content_hash
from resight.catalogue.detecting import RawPhoto
from resight.detection import yolo
from resight.detection.detector import CATEGORIES, Found, Ready, sort_out
from resight.detection.paths import Place
from resight.errors import InputError
from resight.images import decode_fitting
from resight.models.runtimes import require_readable
from resight.types import Box, Detection

SIZE, LARGE_SIZE = 640, 1280  # of the frame, where the file says nothing: 1280 for networks of stride 64
SIDES = range(32, 8193)
_TYPES = {"tensor(float)": np.float32, "tensor(float16)": np.float16}
_DIGITS = 2  # of a box in pixels after the point, so that it is the same on any machine


class OnnxFile:
    """A network of the YOLO family.

    Photos are decoded by all threads and go through the network one at a time, which takes all cores.
    """

    def __init__(self, file: Path) -> None:
        """Load a file.

        Raises:
            InputError: it cannot be read or is no such network, or onnxruntime is not installed.
        """
        require_readable("onnx")
        self._file = file
        self._session, digest = _open(file)
        self._name = f"onnx:{file.name}@{digest[:8]}"
        inputs = self._session.get_inputs()
        metadata = self._session.get_modelmeta().custom_metadata_map
        stated = _names(metadata.get("names"))
        self._classes = None if stated is None else len(stated)
        self._names = CATEGORIES if stated is None else stated
        if len(inputs) != 1 or inputs[0].type not in _TYPES or len(inputs[0].shape) != 4:
            told = ", ".join(f"{one.name} {one.type} {one.shape}" for one in inputs)
            raise self._unusable(f"it takes {told or 'nothing'}; expected pictures as [batch, 3, height, width] floats")
        batch, channels, height, width = inputs[0].shape
        if (isinstance(batch, int) and batch != 1) or (isinstance(channels, int) and channels != 3):
            raise self._unusable(
                f"it takes {batch} pictures of {channels} channels at once; expected one of 3: export it with batch 1"
            )
        self._input, self._type = inputs[0].name, _TYPES[inputs[0].type]
        self.width, self.height = self._frame(width, height, metadata)
        self._lock = threading.Lock()

    @property
    def name(self) -> str:
        """The file's name and the beginning of its hash."""
        return self._name

    def ready(self, places: Mapping[int, Place]) -> Ready:
        """It looks at any photo."""
        return Ready(self._look)

    def _look(self, photo: RawPhoto, read: Callable[[], bytes]) -> Found:
        pixels, (width, height) = decode_fitting(read(), photo.file_name, self.width, self.height)
        frame, left, top = yolo.letterbox(pixels, self.width, self.height)
        found = self._boxes(frame)
        # Each axis has its own scale: the picture in the frame has whole pixels.
        scale = np.array([width / pixels.shape[1], height / pixels.shape[0]] * 2, np.float64)
        corners = (found.corners - np.array([left, top] * 2, np.float64)) * scale
        corners = np.clip(corners, 0, [width, height] * 2).round(_DIGITS)
        seen = []
        for (x, y, right, bottom), confidence, label in zip(
            corners.tolist(), found.confidences.tolist(), found.classes.tolist(), strict=True
        ):
            if right > x and bottom > y:  # else it lies in the frame around the photo
                box = Box(x, y, round(right - x, _DIGITS), round(bottom - y, _DIGITS))
                seen.append((self._names[label], Detection(box, confidence)))
        return sort_out(seen)

    def _boxes(self, frame: NDArray[np.uint8]) -> yolo.Candidates:
        picture = (frame.transpose(2, 0, 1)[None].astype(np.float32) / 255).astype(self._type)
        with self._lock:
            output = self._run(picture)
        try:
            layout = yolo.recognise(output.shape, self._classes, self.width, self.height)
            found = yolo.candidates(output, layout, self._classes)
        except InputError as error:
            raise self._unusable(str(error)) from None
        if len(found.classes) and not 0 <= found.classes.min() <= found.classes.max() < len(self._names):
            raise self._unusable(
                f"it has a class {found.classes.max()} and names {len(self._names)}; export it with its classes' names"
            )
        return found if layout == "end to end" else yolo.without_repeats(found, self._names)

    def _run(self, picture: NDArray[Any]) -> NDArray[np.float32]:
        try:
            outputs = self._session.run(None, {self._input: picture})
        except _errors() as error:
            raise self._unusable(f"onnxruntime cannot run it ({_first_line(error)}); export it anew") from None
        # Networks that also draw masks give them beside the boxes, in four dimensions.
        boxes = [np.asarray(one) for one in outputs if np.ndim(one) == 3]
        if not boxes:
            shapes = ", ".join(str(list(np.shape(one))) for one in outputs)
            raise self._unusable(f"its outputs have the shapes {shapes}; expected one of 3 dimensions: export it anew")
        return boxes[0].astype(np.float32)

    def _frame(self, width: object, height: object, metadata: Mapping[str, str]) -> tuple[int, int]:
        """Width and height of the frame: what the input is fixed to, else what the exporter wrote, else the usual."""
        stated = _literal(metadata.get("imgsz"))
        stride = _literal(metadata.get("stride"))
        usual = LARGE_SIZE if isinstance(stride, int) and stride >= 64 else SIZE
        sides = [stated, stated] if isinstance(stated, int) else stated if isinstance(stated, (list, tuple)) else []
        tall, wide = sides if len(sides) == 2 else (usual, usual)
        found = (width if isinstance(width, int) else wide, height if isinstance(height, int) else tall)
        for side in found:
            if not isinstance(side, int) or side not in SIDES:
                raise self._unusable(f"its pictures have a side of {side}; expected {SIDES.start} to {SIDES.stop - 1}")
        return found[0], found[1]

    def _unusable(self, why: str) -> InputError:
        return InputError(f"onnx:{self._file} cannot be used as a detector: {why}")


def _open(file: Path) -> tuple[Any, str]:
    import onnxruntime

    options = onnxruntime.SessionOptions()
    asked = os.environ.get("OMP_NUM_THREADS", "")
    options.intra_op_num_threads = int(asked) if asked.isdecimal() else 0
    options.log_severity_level = 3
    usable = onnxruntime.get_available_providers()
    providers = [name for name in ("CUDAExecutionProvider", "CPUExecutionProvider") if name in usable]
    try:
        content = file.read_bytes()
        # By its path, so that weights in a file beside it are found.
        session = onnxruntime.InferenceSession(str(file), options, providers=providers)
    except OSError as error:
        raise InputError(f"onnx:{file}: cannot be read ({error.strerror}); expected an ONNX file") from None
    except _errors() as error:
        raise InputError(
            f"onnx:{file}: no ONNX network that can be read ({_first_line(error)}); export it anew"
        ) from None
    return session, content_hash(content)


def _errors() -> tuple[type[Exception], ...]:
    from onnxruntime.capi import onnxruntime_pybind11_state as state

    return (
        state.EPFail, state.Fail, state.InvalidArgument, state.InvalidGraph, state.InvalidProtobuf, state.ModelLoaded,
        state.NoModel, state.NoSuchFile, state.NotImplemented, state.RuntimeException,
    )  # fmt: skip


def _first_line(error: Exception) -> str:
    return next((line.strip() for line in str(error).splitlines() if line.strip()), type(error).__name__)


def _names(text: str | None) -> tuple[str, ...] | None:
    """The names of the classes as exporters write them: ``{0: 'animal', 1: 'person'}`` or a list."""
    found = _literal(text)
    if isinstance(found, dict) and set(found) == set(range(len(found))):
        found = [found[number] for number in range(len(found))]
    if isinstance(found, (list, tuple)) and found and all(isinstance(name, str) and name.strip() for name in found):
        return tuple(name.strip() for name in found)
    return None


def _literal(text: str | None) -> Any:
    """A number, a list or a dictionary written as Python has it; ``None`` for anything else."""
    try:
        return None if text is None else ast.literal_eval(text)
    except (ValueError, SyntaxError, TypeError, MemoryError, RecursionError):
        return None
