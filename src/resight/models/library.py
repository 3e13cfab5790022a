"""The models at hand, and which of them a name means. Answers without importing torch."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from resight.errors import InputError, UnknownName
from resight.models import hub
from resight.models.config import CONFIG_FILE, read_config
from resight.models.hub import HUB_PREFIX
from resight.models.layouts import image_size_of, weights_key
from resight.models.packaged import IMAGENET_LITE0, PACKAGED, is_installed, load_packaged

if TYPE_CHECKING:
    from resight.models.embedder import Embedder

MODEL_FOLDER = "model"


@dataclass(frozen=True)
class ModelCard:
    """One model as ``resight models`` lists it.

    ``dim`` is ``None`` while a run has not written its model; ``licence`` is ``None`` where none is stated;
    ``available`` says whether the model can be loaded now.
    """

    name: str
    backbone: str
    dim: int | None
    image_size: int
    licence: str | None
    available: bool


@dataclass(frozen=True)
class FoundModel:
    """What a name means.

    Attributes:
        name: A name that is good for a folder's: the run's, the packaged model's, or the folder's or hub's with the
            start of its weights' hash, since two folders may bear one name and a hub's model may change.
        kind: How it was found.
        folder: Where its files lie; ``None`` for a packaged model.
        source: Where a model of the hub comes from, for the reader; else ``None``.
        licence: The licence of a well-known hub model whose card states none; else ``None``.
    """

    name: str
    kind: Literal["run", "folder", "packaged", "hub"]
    folder: Path | None
    source: str | None = None
    licence: str | None = None

    def image_size(self) -> int:
        """Side in pixels of the chips that the model takes."""
        if self.folder is not None:
            return image_size_of(self.folder)
        return next(model.image_size for model in PACKAGED if model.name == self.name)

    def load(self) -> Embedder:
        """Load the model on the CPU, in evaluation mode.

        Raises:
            InputError: a file is missing or broken, or a Python package is not installed.
            ArtefactMismatch: the weights do not fit the config.
        """
        if self.folder is None:
            return load_packaged(self.name)
        from resight.models.public import load_folder

        return load_folder(self.folder, source=self.source, licence=self.licence)


def find_model(name: str, runs_dir: Path) -> FoundModel:
    """Find the model that ``name`` means: ``hub:OWNER/NAME``, a run, a packaged model, or a folder; in this order.

    A model of the hub is fetched, or found in the hub's cache on this machine; ``hub:OWNER/NAME@REVISION`` asks for
    one state of it. A folder may have resight's layout, MiewID's or timm's.

    Args:
        name: The MODEL of the command line.
        runs_dir: The project's ``runs`` folder; need not exist.

    Raises:
        UnknownName: nothing of that name.
        InputError: the run has not written its model yet, the folder holds no model, or the hub's cannot be had.
        ArtefactMismatch: the folder's layout is not known.
    """
    if name.startswith(HUB_PREFIX):
        return _of_hub(name)
    if name in _run_names(runs_dir):
        folder = runs_dir / name / MODEL_FOLDER
        if not (folder / CONFIG_FILE).is_file():
            raise InputError(
                f"run {name!r} has not written its model yet: let it finish, or train it again with --resume"
            )
        return FoundModel(name, "run", folder)
    if any(model.name == name for model in PACKAGED):
        return FoundModel(name, "packaged", None)
    folder = Path(name)
    if (folder / CONFIG_FILE).is_file():
        weights_hash = weights_key(folder)
        resolved = folder.resolve()
        title = resolved.parent.name if resolved.name == MODEL_FOLDER else resolved.name
        return FoundModel(f"{title or MODEL_FOLDER}-{weights_hash[:8]}", "folder", resolved)
    if folder.is_dir():
        raise InputError(f"folder {name!r} is no model: it has no {CONFIG_FILE}")
    known = [card.name for card in list_models(runs_dir)]
    raise UnknownName.among("model", name, known, "'resight models' lists them")


def _of_hub(name: str) -> FoundModel:
    repository, _, revision = name.removeprefix(HUB_PREFIX).partition("@")
    owner, slash, title = repository.partition("/")
    if not (owner and slash and title) or "/" in title:
        raise InputError(f"model {name!r}: expected hub:OWNER/NAME, such as hub:{hub.KNOWN[-1].name}")
    folder = hub.fetch(
        repository,
        revision=revision or None,
        remedy=f"download its {CONFIG_FILE} and weights elsewhere, and name their folder as the model",
    )
    return FoundModel(
        f"{owner}--{title}-{weights_key(folder)[:8]}",
        "hub",
        folder,
        source=f"{HUB_PREFIX}{repository}@{folder.name}",  # a folder of the cache bears the name of its commit
        licence=hub.known_licence(repository),
    )


def default_model(runs_dir: Path) -> FoundModel:
    """The model that is meant where none is named: the newest finished run, else the packaged ImageNet model.

    A run's age is that of its model's config.
    """
    finished = [name for name in _run_names(runs_dir) if (runs_dir / name / MODEL_FOLDER / CONFIG_FILE).is_file()]
    if not finished:
        return FoundModel(IMAGENET_LITE0.name, "packaged", None)

    def age(name: str) -> tuple[int, str]:
        return (runs_dir / name / MODEL_FOLDER / CONFIG_FILE).stat().st_mtime_ns, name

    return find_model(max(finished, key=age), runs_dir)


def list_models(runs_dir: Path) -> tuple[ModelCard, ...]:
    """The packaged models, the runs, finished or not, and well-known models of the hub, by name within each kind.

    A run whose files cannot be read is listed as not available. A model of the hub is available when it is in the
    cache on this machine; the network is not asked.
    """
    packaged = [
        ModelCard(model.name, model.backbone, model.dim, model.image_size, model.licence, available=is_installed(model))
        for model in sorted(PACKAGED, key=lambda model: model.name)
    ]
    public = [
        ModelCard(
            f"{HUB_PREFIX}{model.name}",
            model.backbone,
            model.dim,
            model.image_size,
            model.licence,
            available=hub.is_cached(model.name),
        )
        for model in sorted(hub.KNOWN, key=lambda model: model.name)
    ]
    return (*packaged, *(_card_of_run(name, runs_dir) for name in _run_names(runs_dir)), *public)


def _card_of_run(name: str, runs_dir: Path) -> ModelCard:
    try:
        config = read_config(runs_dir / name / MODEL_FOLDER).config
    except InputError:
        recipe = _recipe_of_run(runs_dir / name / CONFIG_FILE)
        backbone, image_size = str(recipe.get("backbone", "?")), recipe.get("image_size", 0)
        return ModelCard(name, backbone, None, image_size if isinstance(image_size, int) else 0, None, available=False)
    return ModelCard(name, config.backbone, config.dim, config.image_size, config.licence, available=True)


def _recipe_of_run(path: Path) -> dict[str, Any]:
    try:
        recipe = json.loads(path.read_text(encoding="utf-8"))["recipe"]
    except (OSError, ValueError, KeyError, TypeError):
        return {}
    return recipe if isinstance(recipe, dict) else {}


def _run_names(runs_dir: Path) -> list[str]:
    if not runs_dir.is_dir():
        return []
    return sorted(entry.name for entry in runs_dir.iterdir() if entry.is_dir() and (entry / CONFIG_FILE).is_file())
