"""Weights by name: read from a file without running code, hashed, and put into a network with nothing left over."""

from __future__ import annotations

import hashlib
import logging
import struct
import sys
from collections.abc import Mapping
from pathlib import Path
from pickle import UnpicklingError
from typing import Any

import timm
import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn

from resight.errors import ArtefactMismatch, InputError

logger = logging.getLogger(__name__)

_SHOWN = 3  # tensors that a message names before it counts the rest
# What torch's reader and that of safetensors raise on files that are broken or hold something else.
_UNREADABLE = (SafetensorError, UnpicklingError, OSError, EOFError, RuntimeError, ValueError, LookupError, TypeError,
               AttributeError, AssertionError, struct.error)  # fmt: skip


def read_state(path: Path, *, remedy: str) -> dict[str, Tensor]:
    """Read ``.safetensors``, or a state dict saved by torch, in which nothing but tensors is accepted.

    Args:
        path: The file.
        remedy: What the user can do where it cannot be read; one clause.

    Raises:
        InputError: the file cannot be read or holds something else.
    """
    try:
        if path.suffix == ".safetensors":
            return load_file(path)
        state = torch.load(path, map_location="cpu", weights_only=True)
    except _UNREADABLE as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise InputError(f"weights file {path} cannot be read ({reason}): {remedy}") from None
    if not isinstance(state, dict) or not all(isinstance(k, str) and isinstance(v, Tensor) for k, v in state.items()):
        raise InputError(f"weights file {path} holds no state dict (names and tensors): {remedy}")
    return state


def without(state: Mapping[str, Tensor], modules: tuple[str, ...]) -> dict[str, Tensor]:
    """The weights that belong to none of these modules, such as ``head.fc``."""
    prefixes = tuple(f"{module}." for module in modules)
    return {name: tensor for name, tensor in state.items() if not prefixes or not name.startswith(prefixes)}


def classifier_of(backbone: str) -> tuple[str, ...]:
    """The modules that timm names as the classifier of a backbone; may be none."""
    stated = timm.get_pretrained_cfg(backbone, allow_unregistered=True)
    named = getattr(stated, "classifier", None) or ()
    return (named,) if isinstance(named, str) else tuple(named)


def load_backbone(module: nn.Module, state: Mapping[str, Tensor], backbone: str, *, where: str, resize: bool) -> None:
    """Load weights under timm's names, those of older releases of timm and of the original authors among them.

    Args:
        module: The network, is filled in place.
        state: Weights by name, without a classifier.
        backbone: The network's name in timm.
        where: Where the weights come from, for the message.
        resize: Whether a transformer's position tables may be resized to the size that the network was built for.

    Raises:
        ArtefactMismatch: naming the tensors that do not fit.
    """
    converted = dict(state)
    if not _fits(module, converted):
        converted = _as_timm_names_them_now(module, converted, backbone)
        if not resize and not {t.data_ptr() for t in converted.values()} <= {t.data_ptr() for t in state.values()}:
            converted = dict(state)  # a tensor was made up: strict loading names what does not fit
    load_strictly(module, converted, where=where)


def load_strictly(module: nn.Module, state: Mapping[str, Tensor], *, where: str) -> None:
    """Load weights of which none may be missing, left over or of another shape.

    Args:
        module: Is filled in place.
        state: Weights by name.
        where: Where they come from, for the message.

    Raises:
        ArtefactMismatch: naming the tensors that do not fit.
    """
    expected = module.state_dict()
    complaints = []
    missing = sorted(expected.keys() - state.keys())
    if missing:
        complaints.append(f"missing {_first_of(missing)}")
    unexpected = sorted(state.keys() - expected.keys())
    if unexpected:
        complaints.append(f"unexpected {_first_of(unexpected)}")
    shapes = [
        f"{name} is {tuple(state[name].shape)} there and {tuple(expected[name].shape)} in the network"
        for name in expected.keys() & state.keys()
        if state[name].shape != expected[name].shape
    ]
    if shapes:
        complaints.append(_first_of(sorted(shapes)))
    if complaints:
        raise ArtefactMismatch(
            f"{where} does not fit the network: {'; '.join(complaints)}; name the backbone it was made for"
        )
    module.load_state_dict(dict(state), strict=True)


def hash_of_weights(state: Mapping[str, Tensor]) -> str:
    """SHA-256 over name, type, shape and bytes of every tensor, in order of name; in hexadecimal."""
    digest = hashlib.sha256()
    for name in sorted(state):
        tensor = state[name].detach().cpu().contiguous()
        digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}\n".encode())
        digest.update(tensor.reshape(-1).view(torch.uint8).numpy().data)
    return digest.hexdigest()


def _fits(module: nn.Module, state: Mapping[str, Tensor]) -> bool:
    expected = {name: tensor.shape for name, tensor in module.state_dict().items()}
    return expected == {name: tensor.shape for name, tensor in state.items()}


def _as_timm_names_them_now(module: nn.Module, state: dict[str, Tensor], backbone: str) -> dict[str, Tensor]:
    # timm keeps a function beside each architecture that takes old names and sizes to those of today. It is reached
    # by its name alone; where it is not there or fails, the weights stay as they are and strict loading judges them.
    rooms = sys.modules[timm.models.model_entrypoint(backbone).__module__]
    convert: Any = getattr(rooms, "checkpoint_filter_fn", None)
    if convert is None:
        return state
    try:
        converted = convert(dict(state), module)
    except (LookupError, AttributeError, RuntimeError, TypeError, ValueError, AssertionError) as error:
        logger.debug("timm cannot convert weights for %s: %s", backbone, error)
        return state
    return {name: tensor for name, tensor in converted.items() if isinstance(tensor, Tensor)}


def _first_of(names: list[str]) -> str:
    rest = len(names) - _SHOWN
    return ", ".join(names[:_SHOWN]) + (f" and {rest} more" if rest > 0 else "")
