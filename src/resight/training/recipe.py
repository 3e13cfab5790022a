"""How a model is trained: one frozen value, checked when built. Knows no torch."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields, replace
from types import NoneType, UnionType
from typing import Any, Literal, Union, get_args, get_origin, get_type_hints

from resight.errors import RecipeError, UnknownName
from resight.models.config import is_finite_number


@dataclass(frozen=True)
class Augmentation:
    """How far a training chip may differ from the stored one. The mirror image is the recipe's ``mirror``.

    Every strength is the largest; the amount is drawn evenly between minus and plus it. 0 means none.

    Attributes:
        affine_probability: Share of chips that are moved, zoomed, turned, stretched and sheared.
        shift: Displacement along each axis, as a share of the side.
        zoom: Change of size, 0.2 for factors from 0.8 to 1.2.
        rotation_deg: Turn about the centre.
        stretch: Change of the ratio of width to height, 0.2 for factors from 1 / 1.2 to 1.2.
        shear_deg: Slant of the vertical axis.
        jitter_probability: Share of chips whose colours change.
        brightness: Change of the factor that multiplies all channels.
        contrast: Change of the factor about the chip's mean grey.
        saturation: Change of the factor about each pixel's grey.
        hue: Turn of the colour circle, as a share of it, at most 0.5.
        sharpen_probability: Share of chips that are sharpened, by a factor from 1 to 3.
        clahe_probability: Share of chips with contrast-limited adaptive histogram equalisation, clip limit 1 to 4.
        erase_probability: Share of chips of which a rectangle is painted over with one random colour.
        erase_area: Largest rectangle, as a share of the chip; the smallest is a tenth of that.
    """

    affine_probability: float = 0.0
    shift: float = 0.0
    zoom: float = 0.0
    rotation_deg: float = 0.0
    stretch: float = 0.0
    shear_deg: float = 0.0
    jitter_probability: float = 0.0
    brightness: float = 0.0
    contrast: float = 0.0
    saturation: float = 0.0
    hue: float = 0.0
    sharpen_probability: float = 0.0
    clahe_probability: float = 0.0
    erase_probability: float = 0.0
    erase_area: float = 0.1

    def __post_init__(self) -> None:
        """Check every value.

        Raises:
            RecipeError: naming the field, its value and what was expected.
        """
        largest = {"rotation_deg": 180.0, "shear_deg": 45.0, "hue": 0.5, "zoom": 0.9}
        for entry in fields(self):
            value = getattr(self, entry.name)
            top = largest.get(entry.name, 1.0)
            if not is_finite_number(value) or not 0 <= value <= top:
                raise _wrong(f"augment.{entry.name}", value, f"a number from 0 to {top:g}")


@dataclass(frozen=True)
class Recipe:
    """Everything that decides a training run besides the chips.

    Attributes:
        name: Of the preset this recipe comes from.
        backbone: Name of a timm model.
        weights: ``imagenet`` for published weights, ``none`` for a random start, ``init`` for those of a model that is
            named when training starts, or a file.
        image_size: Side of the chips in pixels.
        output_stride: Of the backbone's last feature map: 32, or 16 for twice its resolution.
        gem_levels: Feature maps that are pooled: the last one, or the last two.
        gem_columns: Upright strips of a feature map that are pooled apart and set side by side, so that the embedding
            keeps where along the animal a mark was; it is so many times longer. 1: none.
        pooling_p: GeM's exponent at the start.
        batch_size: Most chips a step, over all processes; an epoch's batches are of one size, give or take one.
        accumulate: Parts that a batch goes through the network in; BatchNorm and the loss see a part at a time.
        sampler: ``shuffle`` takes every chip once an epoch; ``identities`` likewise, with ``per_identity`` chips of an
            identity side by side (P×K batches); ``species`` takes as many chips, a species' share growing with the
            square root of its size.
        per_identity: K of ``identities``.
        mirror: Half of the chips are mirrored: ``new`` makes the mirror image of an identity a class of its own,
            ``same`` leaves it in its class, ``by-species`` takes ``new`` where the species' sides differ and ``same``
            elsewhere; ``off``.
        use_set_aside: Whether the identities that the split sets aside (too few photos to score) are trained on. What
            comes out is not comparable with models that were not.
        validation_share: Share of each species' training individuals that is drawn as a test side of its own and
            scored after each epoch; ``None``: all are trained on.
        epochs: Passes over the training chips.
        head_only_epochs: Epochs at the start in which only the neck and the head learn.
        seed: Of the weights' start, the order of the chips and the augmentation.
        optimiser: ``adamw`` (decay apart from the gradient) or ``adam``.
        learning_rate: The highest, of everything but the head.
        head_learning_rate_factor: The head's learning rate is this many times the other.
        schedule: After the warm-up, ``cosine`` falls with every step to ``learning_rate_end`` at the last one;
            ``exponential`` multiplies by ``decay_per_epoch`` every epoch. Warm-up is linear, by steps with
            ``cosine`` and by epochs with ``exponential``.
        schedule_steps_per_epoch: Of ``exponential``: how often it moves on in an epoch. 2 is what the public code
            does, whose warm-up of 15 is over after 7 epochs.
        learning_rate_start: At the first step.
        learning_rate_end: At the last step of ``cosine``.
        warmup_epochs: Length of the warm-up; with ``exponential`` a whole number.
        decay_per_epoch: Of ``exponential``.
        weight_decay: Of convolutions and matrices; centres, norms, biases and GeM's exponent have none.
        gradient_clip: Largest norm of the gradient; a longer one is shortened to it. ``None``: none.
        ema_decay: The model that is kept is the running average of the weights and of the BatchNorm statistics, of
            which each step keeps this share (less at the start); ``None``: the last weights are kept.
        centres: Centres a class (K), or the most where ``annotations_per_centre`` is set.
        annotations_per_centre: A class has one centre for so many annotations begun; ``None``: all have ``centres``.
        scale: Of the logits (s).
        margin: ``power`` (margin_a * n ** -margin_exponent + margin_b), ``spread`` (the same power, spread from
            margin_low to margin_high over the classes) or ``absolute`` (fixed numbers); n is a class's annotations.
        margin_a: Of ``power``.
        margin_b: Of ``power``.
        margin_exponent: Of ``power`` and ``spread``.
        margin_low: Of ``spread``: the largest class's, radians.
        margin_high: Of ``spread``: the smallest class's, radians.
        species_weight: Weight of a second head that tells the species; 0: none.
        distil_weight: Weight of the distance between the batch's cosines and the teachers'; 0 where there are none.
        augment: Strengths of augmentation; ``augment.shift`` and so on among the settings.
        precision: Of the backbone; the head is float32 always. ``auto``: bfloat16 on an accelerator, else float32.
        compile: Whether torch compiles the backbone, which takes minutes and pays on long runs. Changes rounding only.
        deterministic: Whether only algorithms are used that give the same bits each time; slower on an accelerator.
        checkpoint_every_steps: A checkpoint every so many steps, besides the one at each epoch's end; ``None``: no
            others. Does not change the result.
        loader_workers: Processes that read chips where they do not fit into memory; ``None``: none. Does not change
            the result.
        assumed: Fields whose values the source of the preset does not name.
    """

    name: str
    backbone: str = "tf_efficientnet_lite0"
    weights: str = "imagenet"
    image_size: int = 160
    output_stride: Literal[32, 16] = 32
    gem_levels: Literal[1, 2] = 1
    gem_columns: int = 1
    pooling_p: float = 3.0
    batch_size: int = 32
    accumulate: int = 1
    sampler: Literal["shuffle", "identities", "species"] = "shuffle"
    per_identity: int = 4
    mirror: Literal["off", "new", "same", "by-species"] = "off"
    use_set_aside: bool = False
    validation_share: float | None = None
    epochs: int = 20
    head_only_epochs: int = 0
    seed: int = 0
    optimiser: Literal["adamw", "adam"] = "adamw"
    learning_rate: float = 5e-4
    head_learning_rate_factor: float = 10.0
    schedule: Literal["cosine", "exponential"] = "cosine"
    schedule_steps_per_epoch: int = 1
    learning_rate_start: float = 1e-6
    learning_rate_end: float = 1e-6
    warmup_epochs: float = 1.0
    decay_per_epoch: float = 0.8
    weight_decay: float = 0.01
    gradient_clip: float | None = None
    ema_decay: float | None = None
    centres: int = 1
    annotations_per_centre: int | None = None
    scale: float = 30.0
    margin: Literal["power", "spread", "absolute"] = "absolute"
    margin_a: float = 0.5
    margin_b: float = 0.05
    margin_exponent: float = 0.25
    margin_low: float = 0.2
    margin_high: float = 0.5
    species_weight: float = 0.0
    distil_weight: float = 0.0
    augment: Augmentation = field(default_factory=Augmentation)
    precision: Literal["float32", "bfloat16", "auto"] = "float32"
    compile: bool = False
    deterministic: bool = False
    checkpoint_every_steps: int | None = None
    loader_workers: int | None = 2
    assumed: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        """Check every value and how they go together.

        Raises:
            RecipeError: naming the field, its value and what was expected.
        """
        hints = get_type_hints(type(self))
        for entry in fields(self):
            _check_type(entry.name, getattr(self, entry.name), hints[entry.name])
        at_least = {"image_size": 32, "batch_size": 2, "epochs": 1, "seed": 0, "centres": 1, "accumulate": 1,
                    "gem_columns": 1, "per_identity": 2, "head_only_epochs": 0,
                    "schedule_steps_per_epoch": 1}  # fmt: skip
        for name, smallest in at_least.items():
            if getattr(self, name) < smallest:
                raise _wrong(name, getattr(self, name), f"at least {smallest}")
        for name in ("checkpoint_every_steps", "loader_workers", "annotations_per_centre"):
            value = getattr(self, name)
            if value is not None and value < 1:
                raise _wrong(name, value, "at least 1, or none for off")
        for name in ("pooling_p", "learning_rate", "head_learning_rate_factor", "decay_per_epoch", "scale"):
            if getattr(self, name) <= 0:
                raise _wrong(name, getattr(self, name), "a number above 0")
        for name in ("learning_rate_start", "learning_rate_end", "warmup_epochs", "weight_decay", "margin_exponent",
                     "species_weight", "distil_weight"):  # fmt: skip
            if getattr(self, name) < 0:
                raise _wrong(name, getattr(self, name), "a number from 0")
        for name in ("margin_a", "margin_b", "margin_low", "margin_high"):
            if not 0 <= getattr(self, name) < math.pi / 2:
                raise _wrong(name, getattr(self, name), "radians from 0 to below π / 2")
        if self.margin_low > self.margin_high:
            raise _wrong("margin_low", self.margin_low, f"at most margin_high, which is {self.margin_high}")
        for name in ("learning_rate_start", "learning_rate_end"):
            if getattr(self, name) > self.learning_rate:
                raise _wrong(name, getattr(self, name), f"at most learning_rate, which is {self.learning_rate}")
        for name, below in (("validation_share", 0.9), ("ema_decay", 1.0), ("gradient_clip", math.inf)):
            value = getattr(self, name)
            if value is not None and not 0 < value < below:
                raise _wrong(name, value, f"a number above 0 and below {below:g}, or none for off")
        if 2 * self.accumulate > self.batch_size:
            raise _wrong("accumulate", self.accumulate, f"at most half of batch_size, which is {self.batch_size}")
        if self.head_only_epochs >= self.epochs:
            raise _wrong("head_only_epochs", self.head_only_epochs, f"below epochs, which is {self.epochs}; set both")
        if self.warmup_epochs > self.epochs:
            raise _wrong("warmup_epochs", self.warmup_epochs, f"at most epochs, which is {self.epochs}; set both")
        if self.schedule == "exponential" and self.warmup_epochs != int(self.warmup_epochs):
            raise _wrong("warmup_epochs", self.warmup_epochs, "a whole number with the schedule 'exponential'")

    def with_settings(self, settings: Mapping[str, str]) -> Recipe:
        """Change fields as ``--set key=value`` does.

        A field that is set is no longer ``assumed``.

        Args:
            settings: Texts by key; each is read as its field's type, ``none`` as ``None`` where that means off.
                Augmentation has keys such as ``augment.shift``.

        Returns:
            The changed recipe, checked.

        Raises:
            UnknownName: a key that is no field, with the nearest that is.
            RecipeError: a value that cannot be read or is impossible.
        """
        changes: dict[str, Any] = {}
        augment: dict[str, Any] = {}
        types = setting_types()
        for key, text in settings.items():
            if key not in types:
                raise UnknownName.among("recipe setting", key, types)
            value = _parse(key, text, types[key])
            if key.startswith("augment."):
                augment[key.removeprefix("augment.")] = value
            else:
                changes[key] = value
        if augment:
            changes["augment"] = replace(self.augment, **augment)
        changes["assumed"] = tuple(name for name in self.assumed if name not in settings)
        return replace(self, **changes)

    def to_json(self) -> dict[str, Any]:
        """Give the fields as plain JSON values."""
        return {**asdict(self), "assumed": list(self.assumed)}

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> Recipe:
        """Build from JSON values.

        Raises:
            UnknownName: a key that is no field.
            RecipeError: the name is missing, or a value is impossible.
        """
        given = dict(values)
        for known, keys in ((_names(cls), given), (_names(Augmentation), given.get("augment", {}))):
            for key in keys:
                if key not in known:
                    raise UnknownName.among("recipe field", key, known)
        if "name" not in given:
            raise RecipeError("a recipe lacks its name: add one")
        given["augment"] = Augmentation(**given.get("augment", {}))
        given["assumed"] = tuple(given.get("assumed", ()))
        return cls(**given)


def setting_types() -> dict[str, Any]:
    """The keys of ``--set`` and the type of each."""
    own = get_type_hints(Recipe)
    keys = {name: kind for name, kind in own.items() if name not in ("name", "augment", "assumed")}
    return {**keys, **{f"augment.{name}": kind for name, kind in get_type_hints(Augmentation).items()}}


def _names(kind: type[Recipe] | type[Augmentation]) -> set[str]:
    return {entry.name for entry in fields(kind)}


def _parse(key: str, text: str, kind: Any) -> Any:
    if get_origin(kind) is Literal:  # checked against its choices when the recipe is built
        return int(text) if text.strip().isdecimal() else text
    if get_origin(kind) in (Union, UnionType):
        if text.strip().lower() == "none":
            return None
        kind = next(part for part in get_args(kind) if part is not NoneType)
    if kind is bool:
        if text.strip().lower() not in ("true", "false"):
            raise _wrong(key, text, "true or false")
        return text.strip().lower() == "true"
    try:
        return kind(text)
    except ValueError:
        expected = {"int": "a whole number", "float": "a number"}.get(kind.__name__, kind.__name__)
        raise _wrong(key, text, expected) from None


def _check_type(name: str, value: object, kind: Any) -> None:
    if get_origin(kind) is Literal:
        if value not in get_args(kind):
            raise _wrong(name, value, f"one of {', '.join(map(str, get_args(kind)))}")
        return
    if get_origin(kind) in (Union, UnionType):
        if value is None:
            return
        kind = next(part for part in get_args(kind) if part is not NoneType)
    if kind is float:
        if not is_finite_number(value):
            raise _wrong(name, value, "a finite number")
    elif kind is int:
        if not isinstance(value, int) or isinstance(value, bool):
            raise _wrong(name, value, "a whole number")
    elif kind is bool:
        if not isinstance(value, bool):
            raise _wrong(name, value, "true or false")
    elif kind is str and (not isinstance(value, str) or not value):
        raise _wrong(name, value, "a text that is not empty")


def _wrong(name: str, value: object, expected: str) -> RecipeError:
    return RecipeError(f"recipe setting {name} is {value!r}: expected {expected}")
