"""Which runtime embeds with a model: the one asked for, else the fastest that is at hand."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import TYPE_CHECKING

from resight.errors import InputError, UnknownName
from resight.models.runtimes import MODEL_FILES, PASSPORT_FILE, Runtime, can_read, open_export, require_readable

if TYPE_CHECKING:
    from resight.models.config import EmbedderConfig
    from resight.models.exporting import ExportedModel
    from resight.models.library import FoundModel

logger = logging.getLogger(__name__)

RUNTIMES = ("torch", *MODEL_FILES)
FASTEST_ON_CPU = "openvino"


def export_folder(found: FoundModel, project: Path, format: str) -> Path:
    """Where a model's export lies in a project: beside a run's model, else under ``exports/``.

    Raises:
        UnknownName: no such format.
    """
    UnknownName.require("export format", [format], MODEL_FILES)
    if found.kind == "run" and found.folder is not None:
        return found.folder.parent / "exports" / format
    return project / "exports" / found.name / format


def export_found(found: FoundModel, format: str, folder: Path, *, chips_root: Path) -> ExportedModel:
    """Write a model as a file; see :func:`resight.models.exporting.export_model`.

    Args:
        found: The model.
        format: ``onnx`` or ``openvino``.
        folder: Where to.
        chips_root: The project's ``chips/``; the file is compared with the network on some of them.
    """
    from resight.chips import ChipSpec
    from resight.models.exporting import export_model

    chips_folder = chips_root / ChipSpec(found.image_size()).folder_name
    return export_model(found.load(), found.name, format, folder, chips_folder=chips_folder)


def choose_runtime(found: FoundModel, asked: str | None, project: Path) -> Runtime:
    """Open a model for embedding.

    Args:
        found: The model.
        asked: ``torch``, ``onnx`` or ``openvino``; an export that is not there yet is made. ``None`` takes the
            model's OpenVINO export where there is one that fits, OpenVINO is installed and there is no GPU; else torch.
        project: The project's folder.

    Raises:
        UnknownName: no such runtime.
        ArtefactMismatch: the export is of other weights.
        InputError: a Python package is not installed, or a file cannot be read.
    """
    if asked is None:
        return _fastest(found, project)
    UnknownName.require("runtime", [asked], RUNTIMES)
    if asked == "torch":
        return _torch(found)
    require_readable(asked)
    folder = export_folder(found, project, asked)
    if not (folder / PASSPORT_FILE).is_file():
        logger.info("model %s has no %s export yet; it is written to %s", found.name, asked, folder)
        export_found(found, asked, folder, chips_root=project / "chips")
    return _exported(found, asked, folder)


def _fastest(found: FoundModel, project: Path) -> Runtime:
    folder = export_folder(found, project, FASTEST_ON_CPU)
    if (folder / PASSPORT_FILE).is_file() and can_read(FASTEST_ON_CPU) and not _has_gpu():
        try:
            return _exported(found, FASTEST_ON_CPU, folder)
        except InputError as error:
            logger.warning("torch is used instead: %s", error)
    return _torch(found)


def _exported(found: FoundModel, format: str, folder: Path) -> Runtime:
    config, weights_hash = _identity(found)
    remedy = f"export it anew: resight export-model {found.name} --format {format}"
    return open_export(folder, format, config, weights_hash, remedy=remedy)


def _identity(found: FoundModel) -> tuple[EmbedderConfig, str]:
    """Config and weights' hash; a run's are read without importing torch."""
    from resight.models.config import read_config

    if found.kind == "run" and found.folder is not None:
        stored = read_config(found.folder)
        return stored.config, stored.weights_hash
    embedder = found.load()
    return embedder.config, embedder.weights_hash


def _torch(found: FoundModel) -> Runtime:
    from resight.models.torch_runtime import TorchRuntime

    return TorchRuntime(found.load(), device=best_device())


def best_device() -> str:
    """``cuda`` where there is a GPU, else ``cpu``."""
    return "cuda" if _has_gpu() else "cpu"


def _has_gpu() -> bool:
    import torch

    return torch.cuda.is_available()
