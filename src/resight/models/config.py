"""What a model is apart from its weights: a small frozen value, stored as readable JSON beside them."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any, Literal

from resight.errors import ArtefactMismatch, InputError, UnknownName

WEIGHTS_FILE = "model.safetensors"
CONFIG_FILE = "config.json"
FORMAT = "resight-embedder-1"
# Keys by which the transformers library finds a published model's class; they say nothing to resight.
TRANSFORMERS_KEYS = frozenset(
    {"architectures", "auto_map", "dtype", "model_type", "torch_dtype", "transformers_version"}
)

Triple = tuple[float, float, float]

_CHOICES: dict[str, tuple[object, ...]] = {
    "pooling": ("gem", "backbone"),
    "gem_levels": (1, 2),
    "output_stride": (32, 16),
    "neck": ("batchnorm", "none"),
}


@dataclass(frozen=True)
class EmbedderConfig:
    """The network and its preprocessing.

    Attributes:
        backbone: Name of a timm model.
        dim: Length of an embedding: the channels of the feature maps that are pooled, times ``gem_columns``.
        image_size: Side of the square chips in pixels.
        mean: Mean per channel (R, G, B) that is taken off, in units of [0, 1].
        std: Standard deviation per channel that divides, in units of [0, 1].
        resize: How a crop becomes a square: ``squash`` keeps no aspect.
        pooling_p: GeM's exponent at the start of training; the learned one is among the weights.
        pooling_eps: Smallest activation GeM sees.
        pooling: ``gem``, or ``backbone`` for the pooling and final norm that timm's model has of its own, which has no
            exponent.
        gem_levels: Feature maps that GeM pools: 1 is the last; 2 is the last two (strides 16 and 32), side by side,
            each with an exponent of its own.
        gem_columns: Upright strips of equal width, left to right, that GeM pools apart and sets side by side; 1 pools
            the whole map, which forgets where on the animal a mark was.
        output_stride: Pixels a position of the last feature map, 32 or 16; 16 is for convolutional backbones.
        neck: ``batchnorm`` after the pooling, or ``none``.
        weights_source: Where the weights come from, for the reader.
        licence: Licence of the weights; ``None`` where none is stated.
    """

    backbone: str
    dim: int
    image_size: int
    mean: Triple
    std: Triple
    resize: Literal["squash"] = "squash"
    pooling_p: float = 3.0
    pooling_eps: float = 1e-6
    pooling: Literal["gem", "backbone"] = "gem"
    gem_levels: Literal[1, 2] = 1
    gem_columns: int = 1
    output_stride: Literal[32, 16] = 32
    neck: Literal["batchnorm", "none"] = "batchnorm"
    weights_source: str = "none"
    licence: str | None = None

    def __post_init__(self) -> None:
        """Check every value.

        Raises:
            InputError: naming the field, its value and what was expected.
        """
        for name in ("backbone", "weights_source"):
            if not isinstance(getattr(self, name), str) or not getattr(self, name):
                raise _wrong(name, getattr(self, name), "a non-empty text")
        for name in ("dim", "image_size", "gem_columns"):
            value = getattr(self, name)
            if not isinstance(value, int) or isinstance(value, bool) or value < 1:
                raise _wrong(name, value, "a whole number above 0")
        for name in ("mean", "std"):
            value = getattr(self, name)
            if len(value) != 3 or not all(is_finite_number(number) for number in value):
                raise _wrong(name, value, "three numbers, one a channel")
        if min(self.std) <= 0:
            raise _wrong("std", self.std, "three numbers above 0")
        if self.resize != "squash":
            raise _wrong("resize", self.resize, "'squash', the only one there is")
        for name, choices in _CHOICES.items():
            value = getattr(self, name)
            if isinstance(value, (bool, float)) or value not in choices:
                raise _wrong(name, value, " or ".join(repr(choice) for choice in choices))
        for name in ("gem_levels", "gem_columns"):
            if self.pooling == "backbone" and getattr(self, name) != 1:
                raise _wrong(name, getattr(self, name), "1 where pooling is 'backbone'")
        for name in ("pooling_p", "pooling_eps"):
            if not is_finite_number(getattr(self, name)) or getattr(self, name) <= 0:
                raise _wrong(name, getattr(self, name), "a number above 0")
        if self.licence is not None and not isinstance(self.licence, str):
            raise _wrong("licence", self.licence, "a text, or null where none is stated")

    def to_json(self) -> dict[str, Any]:
        """Give the fields as plain JSON values."""
        return {**asdict(self), "mean": list(self.mean), "std": list(self.std)}

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> EmbedderConfig:
        """Build from JSON values.

        Raises:
            UnknownName: a key that is no field.
            InputError: a field is missing or has an impossible value.
        """
        known = {field.name for field in fields(cls)}
        for key in values:
            if key not in known:
                raise UnknownName.among("key of a model's config", key, known)
        needed = ("backbone", "dim", "image_size", "mean", "std")
        missing = [name for name in needed if name not in values]
        if missing:
            raise InputError(f"a model's config lacks {', '.join(missing)}: write them in {CONFIG_FILE}")
        try:
            triples = {name: tuple(values[name]) for name in ("mean", "std")}
        except TypeError:
            raise InputError(
                f"a model's config has mean {values['mean']!r} and std {values['std']!r}: write three numbers for each"
            ) from None
        return cls(**{**values, **triples})


@dataclass(frozen=True)
class StoredConfig:
    """The ``config.json`` of a model folder: the config and the hash of the weights that it was written with."""

    config: EmbedderConfig
    weights_hash: str


def config_text(config: EmbedderConfig, weights_hash: str) -> str:
    """The text of ``config.json``."""
    values = {"format": FORMAT, **config.to_json(), "weights_hash": weights_hash}
    return json.dumps(values, indent=2, ensure_ascii=False, allow_nan=False) + "\n"


def read_config(folder: Path) -> StoredConfig:
    """Read the ``config.json`` of a model folder.

    Raises:
        InputError: the file is missing, no JSON, or a value in it is impossible.
        UnknownName: a key in it is no field.
        ArtefactMismatch: the folder holds another kind of model.
    """
    path = folder / CONFIG_FILE
    values = read_config_json(folder)
    if not isinstance(values, dict) or values.get("format") != FORMAT:
        found = values.get("format") if isinstance(values, dict) else type(values).__name__
        raise ArtefactMismatch(
            f"{path} has format {found!r}, expected {FORMAT!r}: it is not a model saved by this version of resight"
        )
    weights_hash = values.pop("weights_hash", None)
    if not isinstance(weights_hash, str):
        raise InputError(f"{path} has weights_hash {weights_hash!r}, expected a text: save the model again")
    del values["format"]
    own = {key: value for key, value in values.items() if key not in TRANSFORMERS_KEYS}
    return StoredConfig(EmbedderConfig.from_json(own), weights_hash)


def read_config_json(folder: Path) -> Any:
    """Read the ``config.json`` of a model folder of any layout.

    Raises:
        InputError: the file is missing or no JSON.
    """
    path = folder / CONFIG_FILE
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise InputError(
            f"{path} cannot be read ({error.strerror}): a model folder holds {CONFIG_FILE} and {WEIGHTS_FILE}"
        ) from None
    except ValueError as error:
        raise InputError(f"{path} is no JSON ({error}): save the model again") from None


def is_finite_number(value: object) -> bool:
    """Whether a value is a number as a config may hold it: no truth value, NaN or infinity."""
    return isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value)


def _wrong(name: str, value: object, expected: str) -> InputError:
    return InputError(f"a model's config has {name} {value!r}: expected {expected}")
