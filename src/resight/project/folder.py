"""The project folder: its settings and catalogue, and what every method takes from it."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Self

from resight import settings as settings_file
from resight.catalogue import store
from resight.catalogue.database import Database
from resight.errors import InputError
from resight.images import SUFFIXES
from resight.settings import Settings
from resight.types import Annotation

if TYPE_CHECKING:
    from resight.chips import ChipSet, Failure
    from resight.embedding import EmbedOutcome
    from resight.models.library import FoundModel
    from resight.models.runtimes import Runtime


BLOCK = 2048  # annotations whose chips are cut while an accelerator works on those before
BATCHES_A_CALL = 4  # while an accelerator works on one batch, the next is brought to it


class ProjectFolder:
    """A folder with ``resight.toml`` and the catalogue that it names; the catalogue is not opened yet."""

    def __init__(self, folder: Path) -> None:
        """Use the project in ``folder``; the settings are read, the catalogue is not opened yet."""
        self.folder = folder
        self.settings: Settings = settings_file.read(folder)
        self.database = Database(self.settings.resolved_catalogue_url)

    @classmethod
    def open(cls, path: str | Path | None = None) -> Self:
        """Open the project at ``path``, or the nearest one above the working directory.

        Raises:
            ProjectNotFound: there is none.
        """
        return cls(settings_file.find_project(None if path is None else Path(path)))

    @classmethod
    def init(cls, path: str | Path) -> Self:
        """Make a project with an empty catalogue.

        Raises:
            ProjectExists: the folder is one already.
        """
        folder = Path(path).resolve()
        settings_file.write_new(folder)
        project = cls(folder)
        project.database.create()
        return project

    @property
    def runs_folder(self) -> Path:
        """Training runs, one folder each."""
        return self.folder / "runs"

    @property
    def reports_folder(self) -> Path:
        """Reports of imports and evaluations."""
        return self.folder / "reports"

    def _find_model(self, name: str | None) -> FoundModel:
        from resight.models.library import default_model, find_model

        chosen = name or self.settings.default_model
        return default_model(self.runs_folder) if chosen is None else find_model(chosen, self.runs_folder)

    def _annotations(self, species: Iterable[str]) -> list[Annotation]:
        with self.database.reading() as connection:
            return store.list_annotations(connection, self.settings, species=species)

    def _chips(self, annotations: Sequence[Annotation], size: int) -> ChipSet:
        """Cut chips, and keep what was learned of the photos on the way."""
        from resight.chips import ChipSpec, make_chips

        chips = make_chips(annotations, self.settings.image_roots, self.folder / "chips", ChipSpec(size))
        unreadable = {failure.image_id: failure.message for failure in chips.failures if failure.reason == "unreadable"}
        known = {a.image_id for a in annotations if a.image_status == "quarantined"}
        fresh = {image_id: reason for image_id, reason in unreadable.items() if image_id not in known}
        if chips.found or fresh:
            with self.database.writing(raises_revision=False) as (connection, _):
                store.update_images(connection, chips.found)
                store.quarantine_images(connection, fresh)
        return chips

    def _runtime(self, found: FoundModel, asked: str | None = None) -> Runtime:
        from resight.models.choosing import choose_runtime

        return choose_runtime(found, asked, self.folder)

    def _embed(
        self, annotations: Sequence[Annotation], name: str, network: Runtime, *, anew: bool = False
    ) -> tuple[EmbedOutcome, list[Failure]]:
        from resight.embedding import ahead, embed, passport_for

        if not annotations:
            raise InputError("there is no annotation to embed; import a dataset first: resight import PATH")
        failures: list[Failure] = []

        def cut(block: Sequence[Annotation]) -> ChipSet:
            chips = self._chips(block, network.config.image_size)
            failures.extend(chips.failures)
            if len(failures) == len(annotations):
                raise self._no_photos(failures)
            return chips

        # While the cores are the network's as well there is nothing to gain from cutting at the same time.
        size = BLOCK if network.accelerated else len(annotations)
        sets = (cut(annotations[start : start + size]) for start in range(0, len(annotations), size))
        outcome = embed(
            network,
            passport_for(network),
            ahead(sets, 1) if network.accelerated else sets,
            self.folder / "embeddings" / name,
            name=name,
            anew=anew,
            batch=BATCHES_A_CALL * network.batch if network.accelerated else network.batch,
            made_by=lambda: network.made_by,
        )
        return outcome, failures

    def _no_photos(self, failures: Sequence[Failure]) -> InputError:
        return InputError(
            f"none of the {len(failures)} photos can be used; the first: {failures[0].message}; if the "
            "photos have moved, say where under [images.roots] in resight.toml"
        )


def refuse_picture(out: str | Path | None) -> None:
    """An output never takes the place of a photo."""
    if out is not None and Path(out).suffix.lower() in SUFFIXES:
        raise InputError(f"{out} is named like a photo; name the file to write otherwise")


def checked_name(kind: str, name: str) -> str:
    """Names of runs and splits become names of files."""
    if not name or name.startswith(".") or any(not (c.isalnum() or c in "-_.") for c in name):
        raise InputError(f"{kind} name {name!r}: expected letters, digits, '-', '_' and '.', and no '.' at its start")
    return name
