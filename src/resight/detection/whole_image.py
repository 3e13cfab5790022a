"""The detector that finds one animal in every photo: all of it. For photos that were cut out already."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from resight.catalogue.detecting import RawPhoto
from resight.detection.detector import Found, Ready
from resight.detection.paths import Place
from resight.types import Detection


class WholeImage:
    """Every photo shows one animal, without anything around it."""

    name = "whole-image"

    def ready(self, places: Mapping[int, Place]) -> Ready:
        """It needs nothing."""
        return Ready(_look)


def _look(photo: RawPhoto, read: Callable[[], bytes]) -> Found:
    return Found((Detection(None, 1.0),))
