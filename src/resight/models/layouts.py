"""The layouts of model folders that others publish, read from their ``config.json``; no code in them is run.

Three are known: resight's own, that of the public MiewID models, and timm's, which MegaDescriptor has. Answers
without torch.
"""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from resight.errors import ArtefactMismatch, InputError
from resight.models.config import CONFIG_FILE, WEIGHTS_FILE, Triple, is_finite_number, read_config, read_config_json

PICKLED_WEIGHTS_FILE = "pytorch_model.bin"
CARD_FILE = "README.md"

Layout = Literal["resight", "miewid", "timm"]

_IMAGENET_MEAN: Triple = (0.485, 0.456, 0.406)
_IMAGENET_STD: Triple = (0.229, 0.224, 0.225)
_MIEWID_IMAGE_SIZE = 440  # its config.json states none; the size of the published preprocessing
# Arguments with which timm builds a network that do not change it, or that are taken from elsewhere in the config.
_HARMLESS_ARGUMENTS = frozenset({"img_size", "in_chans", "num_classes", "global_pool"})


@dataclass(frozen=True)
class PublicModel:
    """What the ``config.json`` of a published folder says of the network.

    Attributes:
        layout: Whose layout it is.
        backbone: Name of a timm model.
        image_size: Side of the square chips in pixels.
        mean: Mean per channel (R, G, B), in units of [0, 1].
        std: Standard deviation per channel.
        dim: Length of an embedding where the config states it.
        global_pool: timm's name of the pooling where the config states it.
        heads: Modules that serve training alone, whose weights are thrown away.
        licence: As the model card beside it states; ``None`` where it states none.
    """

    layout: Literal["miewid", "timm"]
    backbone: str
    image_size: int
    mean: Triple
    std: Triple
    dim: int | None
    global_pool: str | None
    heads: tuple[str, ...]
    licence: str | None


def layout_of(folder: Path) -> Layout:
    """Say whose layout a model folder has.

    Raises:
        InputError: its ``config.json`` is missing or no JSON.
        ArtefactMismatch: none of the three.
    """
    values = read_config_json(folder)
    if isinstance(values, dict):
        if "format" in values:
            return "resight"
        classes = values.get("architectures")
        if values.get("model_type") == "miewid" or (isinstance(classes, list) and "MiewIdNet" in classes):
            return "miewid"
        if isinstance(values.get("architecture"), str):
            return "timm"
        shown = ("model_type", "architectures")
        named = [f"{key} {values[key]!r}" for key in shown if key in values] or [f"the keys {', '.join(values)}"]
        found = " and ".join(named)
    else:
        found = f"a {type(values).__name__}"
    raise ArtefactMismatch(
        f"{folder / CONFIG_FILE} has {found}: expected a model saved by resight (key 'format'), MiewID (model_type "
        "'miewid') or timm (key 'architecture')"
    )


def image_size_of(folder: Path) -> int:
    """Side in pixels of the chips that the model in a folder of any layout takes.

    Raises:
        InputError: its ``config.json`` cannot be used.
    """
    if layout_of(folder) == "resight":
        return read_config(folder).config.image_size
    return read_public(folder).image_size


def read_public(folder: Path) -> PublicModel:
    """Read the ``config.json`` of a folder in MiewID's or timm's layout.

    Raises:
        InputError: a value is missing, impossible, or asks for a network that resight does not build.
        ArtefactMismatch: another layout.
    """
    layout = layout_of(folder)
    values = read_config_json(folder)
    where = folder / CONFIG_FILE
    if layout == "miewid":
        return _miewid(values, where, licence_of(folder))
    if layout == "timm":
        return _timm(values, where, licence_of(folder))
    raise ArtefactMismatch(f"{where} is a model of resight's own: expected one of MiewID's or timm's layout")


def weights_file(folder: Path) -> Path:
    """The file with the weights: safetensors, else a state dict saved by torch.

    Raises:
        InputError: the folder has neither.
    """
    for name in (WEIGHTS_FILE, PICKLED_WEIGHTS_FILE):
        if (folder / name).is_file():
            return folder / name
    raise InputError(
        f"{folder} has {CONFIG_FILE} and no weights: expected {WEIGHTS_FILE} or {PICKLED_WEIGHTS_FILE} beside it"
    )


def weights_key(folder: Path) -> str:
    """A hash that stands for the weights in a folder: resight's own where stored, else that of the weights file."""
    if layout_of(folder) == "resight":
        return read_config(folder).weights_hash
    with weights_file(folder).open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def licence_of(folder: Path) -> str | None:
    """The licence in the front matter of a folder's model card; ``None`` where there is none.

    timm's config has a ``license`` as well, which is not used: it is that of the weights the model was made from.
    MegaDescriptor's config says ``mit``, and its card ``cc-by-nc-4.0``.
    """
    try:
        text = (folder / CARD_FILE).read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError):
        return None
    front = re.match(r"---\s*\n(.*?)\n---\s*(?:\n|$)", text, flags=re.DOTALL)
    if front is None:
        return None
    stated = dict(re.findall(r"^(license|license_name)[ \t]*:[ \t]*(\S.*?)[ \t\r]*$", front[1], flags=re.MULTILINE))
    name = stated.get("license", "").strip("'\"")
    if name == "other":
        name = stated.get("license_name", name).strip("'\"")
    return name or None


def _miewid(values: dict[str, Any], where: Path, licence: str | None) -> PublicModel:
    pooling = values.get("pooling", "gem")
    if pooling != "gem":
        raise InputError(f"{where} has pooling {pooling!r}: expected 'gem', the one that the public models have")
    size = values.get("image_size") or values.get("img_size") or _MIEWID_IMAGE_SIZE
    return PublicModel(
        layout="miewid",
        backbone=_text(values, "model_name", where),
        image_size=_side(size, where, "image_size"),
        mean=_IMAGENET_MEAN,
        std=_IMAGENET_STD,
        dim=None,
        global_pool=None,
        # The margin head, and a last layer whose result the published network does not give out.
        heads=("final", "fc"),
        licence=licence,
    )


def _timm(values: dict[str, Any], where: Path, licence: str | None) -> PublicModel:
    stated = values.get("pretrained_cfg", values)  # old releases of timm wrote all on one level
    arguments = values.get("model_args") or {}
    if not isinstance(stated, dict) or not isinstance(arguments, dict):
        raise InputError(f"{where} has a pretrained_cfg or model_args that is no object: save it again with timm")
    unknown = sorted(arguments.keys() - _HARMLESS_ARGUMENTS)
    if unknown:
        raise InputError(
            f"{where} has model_args {', '.join(unknown)}: resight builds timm's networks by their name alone, so this "
            "model cannot be read"
        )
    size = arguments.get("img_size") or _input_size(stated.get("input_size"), where)
    named = stated.get("classifier") or ()
    if not isinstance(named, str | list | tuple):
        raise InputError(f"{where} has classifier {named!r}: expected the name of a layer, or several")
    dim = values.get("num_features")
    if dim is not None and (not isinstance(dim, int) or isinstance(dim, bool)):
        raise InputError(f"{where} has num_features {dim!r}: expected a whole number")
    pool = arguments.get("global_pool", values.get("global_pool"))
    # crop_pct, crop_mode and interpolation are left aside: a chip is the animal's box squashed to the square, cut by
    # resight alike for every model, and these networks were trained on such crops.
    return PublicModel(
        layout="timm",
        backbone=_text(values, "architecture", where),
        image_size=_side(size, where, "input_size"),
        mean=_triple(stated.get("mean"), where, "mean"),
        std=_triple(stated.get("std"), where, "std"),
        dim=dim,
        global_pool=pool if isinstance(pool, str) else None,
        heads=(named,) if isinstance(named, str) else tuple(str(name) for name in named),
        licence=licence,
    )


def _text(values: dict[str, Any], key: str, where: Path) -> str:
    value = values.get(key)
    if not isinstance(value, str) or not value:
        raise InputError(f"{where} has {key} {value!r}: expected the name of a timm model")
    return value


def _input_size(value: Any, where: Path) -> Any:
    if not isinstance(value, (list, tuple)) or len(value) != 3 or value[0] != 3:
        raise InputError(f"{where} has input_size {value!r}: expected [3, side, side] for colour pictures")
    return value[1:]


def _side(value: Any, where: Path, key: str) -> int:
    sides = value if isinstance(value, (list, tuple)) else [value]
    if not sides or len(set(map(str, sides))) != 1 or not isinstance(sides[0], int) or sides[0] < 1:
        raise InputError(f"{where} has {key} {value!r}: expected one side in pixels, for square pictures")
    return int(sides[0])


def _triple(value: Any, where: Path, key: str) -> Triple:
    if not isinstance(value, (list, tuple)) or len(value) != 3 or not all(is_finite_number(v) for v in value):
        raise InputError(f"{where} has {key} {value!r}: expected three numbers, one a channel")
    return float(value[0]), float(value[1]), float(value[2])
