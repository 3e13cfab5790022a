"""A head: one linear layer that reads a class and a confidence from frozen features; its files."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError
from safetensors.numpy import load_file, save_file

from resight.artefacts import Passport, atomic_path, content_hash, key_of
from resight.attributes.calibration import probabilities
from resight.errors import ArtefactMismatch, InputError

HEAD_VERSION = 1  # raise it whenever the same numbers would give other answers
HEAD_FILE, WEIGHTS_FILE = "head.json", "head.safetensors"
_ARRAYS = ("weight", "bias", "centre", "scale", "basis")

Floats = NDArray[np.float32]


@dataclass(frozen=True)
class Head:
    """What reads an attribute from the features of a chip.

    Attributes:
        field: species, part, viewpoint or quality.
        classes: In the order of the rows of ``weight``.
        species: Those it was fitted on.
        features: The deciding fields of the passport of the features it was fitted on.
        temperature: Divides the logits.
        threshold: The confidence from which on a value is proposed; ``None`` where none is enough.
        most_unlike: Where the features of an animal are less like those it was fitted on than this, nothing is
            proposed; see :meth:`unlikeness`. ``None`` where that is not looked at.
        weight: (classes, dim) float32, for standardised features.
        bias: (classes,) float32.
        centre: (dim,) float32, taken off the features.
        scale: (dim,) float32, divides them then.
        basis: (k, dim) float32, orthonormal rows: the directions in which standardised features differ most; none
            where ``most_unlike`` is ``None``.
        metrics: What was measured out of fold, as plain JSON values; it decides nothing.
    """

    field: str
    classes: tuple[str, ...]
    species: tuple[str, ...]
    features: Mapping[str, Any]
    temperature: float
    threshold: float | None
    most_unlike: float | None
    weight: Floats
    bias: Floats
    centre: Floats
    scale: Floats
    basis: Floats
    metrics: Mapping[str, Any]

    @cached_property
    def name(self) -> str:
        """The field and the start of a hash over everything that decides its answers."""
        decides = self._passport().decides
        return f"{self.field}-{key_of(decides)[:8]}"

    def confidences(self, features: NDArray[np.floating]) -> NDArray[np.float64]:
        """How likely each class is.

        Args:
            features: (n, dim), as the network gives them.

        Returns:
            (n, classes), rows that add up to 1.
        """
        logits = standardised(features, self.centre, self.scale) @ self.weight.T + self.bias
        return probabilities(logits, self.temperature)

    def unlikeness(self, features: NDArray[np.floating]) -> NDArray[np.float32]:
        """How little of a feature lies in the directions that the fitted ones take, from 0 to 1; see :func:`outside`.

        Args:
            features: (n, dim), as the network gives them.
        """
        return outside(standardised(features, self.centre, self.scale), self.basis)

    def require_features(self, passport: Passport) -> None:
        """Refuse features of another network or preprocessing.

        Raises:
            ArtefactMismatch: naming what differs.
        """
        Passport("embeddings", self.features).require_fit(
            passport, where=Path(f"head {self.name}"), remedy=f"fit it anew: resight attributes train {self.field}"
        )

    def save(self, folder: Path) -> None:
        """Write ``head.safetensors``, and ``head.json`` with what decides and what was measured.

        Raises:
            OSError: the folder cannot be written.
        """
        with atomic_path(folder / WEIGHTS_FILE) as temporary:
            save_file({name: np.ascontiguousarray(getattr(self, name)) for name in _ARRAYS}, temporary)
        recorded = {"name": self.name, "metrics": dict(self.metrics)}
        self._passport(recorded).write(folder / HEAD_FILE)

    def _passport(self, recorded: Mapping[str, Any] | None = None) -> Passport:
        arrays = [content_hash(np.ascontiguousarray(getattr(self, name)).tobytes()) for name in _ARRAYS]
        decides = {
            "head_version": HEAD_VERSION,
            "field": self.field,
            "classes": list(self.classes),
            "species": list(self.species),
            "features": dict(self.features),
            "temperature": self.temperature,
            "threshold": self.threshold,
            "most_unlike": self.most_unlike,
            "weights_hash": key_of(arrays),
        }
        return Passport("attribute-head", decides, recorded or {})

    @classmethod
    def load(cls, folder: Path, field: str) -> Head:
        """Read what :meth:`save` wrote.

        Args:
            folder: ``attributes/FIELD`` of the project.
            field: Whose head it must be.

        Raises:
            InputError: there is none yet.
            ArtefactMismatch: the files do not belong together, or are of another version.
        """
        remedy = f"resight attributes train {field}"
        if not (folder / HEAD_FILE).is_file():
            raise InputError(f"{folder} holds no head for {field} yet; label some annotations, then: {remedy}")
        passport = Passport.read(folder / HEAD_FILE)
        decides = passport.decides
        if (decides.get("head_version"), decides.get("field")) != (HEAD_VERSION, field):
            raise ArtefactMismatch(
                f"{folder / HEAD_FILE} is a head for {decides.get('field')!r} of version "
                f"{decides.get('head_version')!r}, expected {field!r} of version {HEAD_VERSION}; fit it anew: {remedy}"
            )
        try:
            arrays = load_file(folder / WEIGHTS_FILE)
            head = cls(
                field=field,
                classes=tuple(decides["classes"]),
                species=tuple(decides["species"]),
                features=decides["features"],
                temperature=decides["temperature"],
                threshold=decides["threshold"],
                most_unlike=decides["most_unlike"],
                metrics=passport.recorded["metrics"],
                **{name: arrays[name] for name in _ARRAYS},
            )
        except (OSError, SafetensorError, KeyError, TypeError) as error:
            raise ArtefactMismatch(
                f"{folder} holds no head that can be read ({error}); fit it anew: {remedy}"
            ) from None
        if head._passport().decides["weights_hash"] != decides["weights_hash"]:
            raise ArtefactMismatch(
                f"{folder / WEIGHTS_FILE} does not hold the numbers that {HEAD_FILE} was written with; fit it anew: "
                f"{remedy}"
            )
        return head


def standardised(features: NDArray[np.floating], centre: Floats, scale: Floats) -> Floats:
    """Features in units of how much each of them varies, (n, dim) float32."""
    found: Floats = (np.asarray(features, np.float32) - centre) / scale
    return found


def outside(features: Floats, basis: Floats) -> Floats:
    """The share of the length of each feature that lies outside the span of a basis.

    The residual of Wang et al. 2022 (ViM, arXiv 2203.10807, section 3.1) over the length of the feature, so that an
    animal that is seen faintly is not taken for a known one.

    Args:
        features: (n, dim) standardised.
        basis: (k, dim) orthonormal rows.

    Returns:
        (n,) from 0, all within, to 1, all outside.
    """
    length = np.square(features).sum(axis=1)
    within = np.square(features @ basis.T).sum(axis=1)
    share: Floats = np.sqrt(np.clip(1.0 - within / np.maximum(length, 1e-12), 0.0, 1.0)).astype(np.float32)
    return share
