"""From ``--detector json:FILE`` to the detector."""

from __future__ import annotations

from pathlib import Path

from resight.detection.detector import Detector
from resight.errors import InputError

EXPECTED = "json:FILE, onnx:FILE, megadetector:MODEL or whole-image"


def parse_detector(text: str) -> Detector:
    """Open the detector that a text names.

    Args:
        text: ``json:FILE``, ``onnx:FILE``, ``megadetector:MODEL`` or ``whole-image``.

    Raises:
        InputError: it names none, or its file cannot be used.
    """
    kind, _, value = text.strip().partition(":")
    if kind == "whole-image" and not value:
        from resight.detection.whole_image import WholeImage

        return WholeImage()
    if kind == "megadetector" and value:
        from resight.detection.megadetector_package import MegaDetectorPackage

        return MegaDetectorPackage(value)
    if kind not in ("json", "onnx") or not value:
        raise InputError(f"--detector {text}: expected {EXPECTED}")
    file = Path(value).expanduser()
    if not file.is_file():
        raise InputError(f"--detector {text}: no such file; expected {EXPECTED}")
    if kind == "json":
        from resight.detection.json_file import JsonFile

        return JsonFile(file)
    from resight.detection.onnx_file import OnnxFile

    return OnnxFile(file)
