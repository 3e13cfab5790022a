"""MegaDetector by its own Python package, which also fetches the weights it knows by name."""

from __future__ import annotations

import contextlib
import importlib
import sys
import threading
from collections.abc import Callable, Mapping
from typing import Any

from PIL import Image

from resight.catalogue.detecting import RawPhoto
from resight.catalogue.sources.megadetector import RelativeDetection, box_in_pixels
from resight.detection.detector import CATEGORIES, LEAST_CONFIDENCE, Found, Ready, sort_out
from resight.detection.paths import Place
from resight.errors import ImageError, InputError
from resight.images import decode_fitting, upright_size
from resight.models.runtimes import require_packages
from resight.types import Detection

LONGEST = 1280  # pixels of the longer side; no released MegaDetector looks at more


class MegaDetectorPackage:
    """A model of the package ``megadetector``: a name that it knows, such as ``MDV5A``, or a file of weights."""

    def __init__(self, model: str) -> None:
        """Load a model.

        Raises:
            InputError: the package is not installed, or cannot load this model.
        """
        require_packages("megadetector", ("megadetector",))
        run_detector = importlib.import_module("megadetector.detection.run_detector")
        labels = getattr(run_detector, "DEFAULT_DETECTOR_LABEL_MAP", None)
        self._labels = labels or {str(number): name for number, name in enumerate(CATEGORIES, start=1)}
        self._model = model
        self._lock = threading.Lock()
        try:
            with _printing_aside():
                self._detector = run_detector.load_detector(model)
        except Exception as error:
            raise InputError(
                f"megadetector:{model} cannot be loaded ({_first_line(error)}); expected a name that the package "
                "megadetector knows, such as MDV5A, or a file of weights"
            ) from error

    @property
    def name(self) -> str:
        """The model's name."""
        return f"megadetector:{self._model}"

    def ready(self, places: Mapping[int, Place]) -> Ready:
        """It looks at any photo."""
        return Ready(self._look)

    def _look(self, photo: RawPhoto, read: Callable[[], bytes]) -> Found:
        content, name = read(), photo.file_name
        width, height = upright_size(content, name)
        pixels, _ = decode_fitting(content, name, min(width, LONGEST), min(height, LONGEST))
        result = self._result(Image.fromarray(pixels), name)
        seen = []
        for one in result.get("detections") or ():
            category = self._labels.get(str(one["category"]))
            if category is None:
                raise InputError(
                    f"megadetector:{self._model} gives the category {one['category']!r}; expected "
                    f"{', '.join(f'{key} ({label})' for key, label in self._labels.items())}: take another model"
                )
            x, y, w, h = map(float, one["bbox"])
            relative = RelativeDetection(category, float(one["conf"]), x, y, w, h)
            box = box_in_pixels(relative, width, height)
            if box.w > 0 and box.h > 0:
                seen.append((category, Detection(box, relative.confidence)))
        return sort_out(seen)

    def _result(self, picture: Image.Image, name: str) -> Mapping[str, Any]:
        """What the package says of an upright picture; its boxes are fractions of it."""
        try:
            with self._lock, _printing_aside():
                result: Mapping[str, Any] = self._detector.generate_detections_one_image(
                    picture, name, detection_threshold=LEAST_CONFIDENCE
                )
        except Exception as error:
            raise ImageError(f"{name}: megadetector:{self._model} failed on it ({_first_line(error)})") from error
        failure = result.get("failure")
        if failure:
            raise ImageError(f"{name}: megadetector:{self._model} could not look at it ({failure})")
        return result


def _printing_aside() -> contextlib.AbstractContextManager[object]:
    """The package prints what it does; standard output is for results."""
    return contextlib.redirect_stdout(sys.stderr)


def _first_line(error: Exception) -> str:
    return next((line.strip() for line in str(error).splitlines() if line.strip()), type(error).__name__)
