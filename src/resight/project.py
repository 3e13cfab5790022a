"""A project: its folder, and the methods that bear the commands' names and return what the commands print."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from filelock import FileLock, Timeout

from resight import settings as settings_file
from resight.artefacts import write_json
from resight.catalogue import intake, store
from resight.catalogue.database import Database
from resight.catalogue.intake import ImportOptions, ImportReport
from resight.catalogue.policy import ViewpointTable, describe, is_allowed
from resight.catalogue.sinks.csv_table import write_csv
from resight.catalogue.statistics import Statistics, statistics
from resight.catalogue.store import StoredSplit
from resight.errors import InputError, NotBuiltYet, ResightError, UnknownName
from resight.images import SUFFIXES
from resight.progress import track
from resight.settings import CANONICAL_VIEWPOINTS, Settings
from resight.types import Annotation, Box

if TYPE_CHECKING:
    from resight.chips import ChipSet
    from resight.embedding import EmbedOutcome
    from resight.evaluation import Evaluation
    from resight.matching.candidates import Match
    from resight.models.embedder import Embedder
    from resight.models.library import FoundModel, ModelCard
    from resight.splits import Split
    from resight.training.loop import TrainResult

RUNTIMES_TO_COME = ("onnx", "openvino")
SINKS_TO_COME = ("coco", "wildbook", "camtrap-dp", "mark", "secr")


@dataclass(frozen=True)
class Exported:
    """What ``resight export`` wrote."""

    format: str
    path: str
    rows: int


@dataclass(frozen=True)
class EmbedReport:
    """What ``resight embed`` did; ``failures`` are photos that cannot be used: annotation_id → why."""

    model: str
    embedded: int
    reused: int
    images_per_second: float | None
    failures: Mapping[str, str]


class Project:
    """One project folder. Make one with :func:`resight.init`, open one with :func:`resight.open`."""

    def __init__(self, folder: Path) -> None:
        """Use the project in ``folder``; the settings are read, the catalogue is not opened yet."""
        self.folder = folder
        self.settings: Settings = settings_file.read(folder)
        self.database = Database(self.settings.resolved_catalogue_url)

    @classmethod
    def open(cls, path: str | Path | None = None) -> Project:
        """Open the project at ``path``, or the nearest one above the working directory.

        Raises:
            ProjectNotFound: there is none.
        """
        return cls(settings_file.find_project(None if path is None else Path(path)))

    @classmethod
    def init(cls, path: str | Path) -> Project:
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

    def migrate(self) -> Path | None:
        """Bring an older catalogue to the newest schema; gives the backup, ``None`` where nothing had to be done."""
        return self.database.migrate()

    def import_(self, path: str | Path, options: ImportOptions | None = None) -> ImportReport:
        """Add a dataset to the catalogue; see :func:`resight.catalogue.intake.import_dataset`.

        Raises:
            ImportRefused: bad rows; nothing was changed, and the error carries the report.
        """
        report = intake.import_dataset(
            Path(path),
            database=self.database,
            settings=self.settings,
            options=options or ImportOptions(),
            reports_folder=self.reports_folder,
        )
        self.settings = settings_file.read(self.folder)
        return report

    def stats(self) -> Statistics:
        """Table 1 of the paper for this catalogue."""
        with self.database.reading() as connection:
            found = store.list_annotations(connection, self.settings)
            return statistics(found, store.policies(connection, self.settings))

    def split(
        self, name: str, *, protocol: str = "paper", seed: int = 0, train_fraction: float | Literal["auto"] = "auto"
    ) -> Split:
        """Draw a split and freeze it under ``name``.

        Raises:
            InputError: the name is taken, or there is nothing to split.
        """
        from resight.splits import make_split

        _checked_name("split", name)
        with self.database.reading() as connection:
            store.require_new_split(connection, name)
            found = store.list_annotations(connection, self.settings)
            policy_of = store.policies(connection, self.settings)
            revision = store.revision(connection)
        split = make_split(found, name=name, seed=seed, protocol=protocol, train_fraction=train_fraction)
        if not split.members:
            reasons = "; ".join(f"{count:,}: {reason}" for reason, count in split.left_out.items())
            raise InputError(
                f"of {len(found):,} annotations none can be divided into training and test"
                + (f" ({reasons})" if reasons else "; import a labelled dataset first: resight import PATH")
            )
        report = {key: value for key, value in asdict(split).items() if key != "members"}
        report["catalogue_annotations"] = len(found)
        with self.database.writing() as (connection, now):
            if now != revision + 1:
                raise ResightError("the catalogue changed while the split was drawn; nothing was frozen, try again")
            store.add_split(
                connection,
                name=name,
                protocol=protocol,
                seed=seed,
                catalogue_revision=now,
                policy_of=policy_of,
                members=split.members,
                report=report,
            )
        return split

    def splits(self) -> list[dict[str, Any]]:
        """The frozen splits, oldest first."""
        with self.database.reading() as connection:
            return store.split_names(connection)

    def train(
        self,
        run: str,
        *,
        split: str,
        recipe: str | None = None,
        settings: Mapping[str, str] | None = None,
        species: Sequence[str] | None = None,
        backbone: str | None = None,
        init: str | None = None,
        resume: bool = False,
    ) -> TrainResult:
        """Train one model for all the species of a split's training side.

        Raises:
            InputError: a taken name, an unknown split, species or recipe, an impossible setting.
            TrainingError: training cannot go on.
        """
        from resight.training.checkpoint import read_run_config
        from resight.training.chipset import SkippedChip, TrainingSample
        from resight.training.loop import train
        from resight.training.presets import preset
        from resight.training.recipe import Recipe

        run_folder = self.runs_folder / _checked_name("run", run)
        overrides = dict(settings or {})
        if backbone is not None:
            overrides["backbone"] = backbone
        if resume and recipe is None:  # a run goes on as it was started, without its settings being said again
            chosen = Recipe.from_json(read_run_config(run_folder)["recipe"])
        else:
            chosen = preset(recipe or "tiny")
        chosen = chosen.with_settings(overrides)
        with self.database.reading() as connection:
            frozen = store.load_split(connection, split)
            members = store.list_annotations(connection, self.settings)
        in_training = [a for a in members if frozen.subset.get(a.annotation_id) == store.TRAIN]
        if species is not None:
            known = {frozen.species[a.annotation_id] for a in in_training}
            UnknownName.require("species in the training side of the split", species, known)
            in_training = [a for a in in_training if frozen.species[a.annotation_id] in species]
        initial = None if init is None else self._find_model(init).load()
        chips = self._chips(in_training, chosen.image_size)
        if in_training and not chips.keys:
            raise self._no_photos(chips)
        left_out = [SkippedChip(f.annotation_id, f.file_name, f.message) for f in chips.failures]
        samples = [
            TrainingSample(
                annotation_id=a.annotation_id,
                species=frozen.species[a.annotation_id],
                identity=frozen.identity[a.annotation_id],
                chip_path=chips.path(a.annotation_id),
            )
            for a in in_training
            if a.annotation_id in chips.keys
        ]
        run_folder.parent.mkdir(parents=True, exist_ok=True)
        try:
            with FileLock(run_folder.with_name(f".{run}.lock"), timeout=0):
                return train(samples, chosen, run_folder, initial=initial, resume=resume, left_out=left_out)
        except Timeout:
            raise InputError(f"run {run!r} is being trained by another process; wait for it, or name another") from None

    def embed(
        self, *, model: str | None = None, split: str | None = None, runtime: str = "torch", anew: bool = False
    ) -> EmbedReport:
        """Make the vectors that annotations lack.

        Raises:
            ArtefactMismatch: the vectors that are there are another model's; ``anew`` replaces them.
        """
        if runtime in RUNTIMES_TO_COME:
            raise NotBuiltYet(f"--runtime {runtime} is not built yet; use torch")
        if runtime != "torch":
            raise UnknownName.among("runtime", runtime, ("torch", *RUNTIMES_TO_COME))
        with self.database.reading() as connection:
            wanted = store.list_annotations(connection, self.settings)
            if split is not None:
                members = store.load_split(connection, split).subset
                wanted = [a for a in wanted if a.annotation_id in members]
        found = self._find_model(model)
        outcome, chips = self._embed(wanted, found, _on_accelerator(found.load()), anew=anew)
        return EmbedReport(
            found.name,
            outcome.embedded,
            outcome.reused,
            outcome.images_per_second,
            {failure.annotation_id: failure.message for failure in chips.failures},
        )

    def evaluate(
        self,
        *,
        split: str,
        model: str | None = None,
        species: Sequence[str] | None = None,
        per_query: str | Path | None = None,
    ) -> Evaluation:
        """Score a model on the test side of a split, one-vs-all per species; the report is kept as JSON.

        Raises:
            UnknownName: a split, model or species that is not there.
        """
        from resight.evaluation import evaluate

        _refuse_picture(per_query)
        with self.database.reading() as connection:
            frozen = store.load_split(connection, split)
            annotations = store.list_annotations(connection, self.settings)
        in_test = [a for a in annotations if frozen.subset.get(a.annotation_id) == store.TEST]
        known = {frozen.species[a.annotation_id] for a in in_test}
        if not known:
            raise InputError(f"split {split!r} has no test annotations; freeze another one")
        UnknownName.require("species in the test side of the split", species or (), known)
        test = [a for a in in_test if species is None or frozen.species[a.annotation_id] in species]
        found = self._find_model(model)
        outcome, _ = self._embed(test, found, _on_accelerator(found.load()))
        result = evaluate(
            frozen,
            outcome.embeddings,
            species=species,
            per_query=None if per_query is None else Path(per_query),
            warnings=_moved_on(frozen, annotations),
        )
        if species is None:  # a part does not take the place of the whole
            write_json(self.reports_folder / f"evaluate-{found.name}-{split}.json", result.as_json())
        return result

    def match(
        self,
        images: Sequence[str | Path],
        *,
        species: str | None = None,
        viewpoint: str | None = None,
        box: Box | None = None,
        model: str | None = None,
        k: int = 20,
        same_animal: bool = False,
        html: str | Path | None = None,
    ) -> list[Match]:
        """Find candidates for new photos, or for photos of the catalogue.

        Raises:
            InputError: a photo that cannot be used, no species where there are several, an unknown viewpoint.
        """
        from resight.matching import queries, sheet
        from resight.matching.candidates import find_candidates

        _refuse_picture(html)
        said = viewpoint
        viewpoint = ViewpointTable(self.settings.viewpoint_aliases).canonical(said)
        if said is not None and viewpoint is None:
            raise InputError(f"--viewpoint {said!r}: expected one of {', '.join(CANONICAL_VIEWPOINTS)}")
        if not images:
            raise InputError("no photo was given; name at least one")
        if box is not None and len(images) > 1:
            raise InputError(f"--box is of one photo, and {len(images)} were given; match each with its own box")
        with self.database.reading() as connection:
            policy_of = store.policies(connection, self.settings)
        name = queries.all_of_one_species(policy_of, species)
        UnknownName.require("species", [name], policy_of)
        absent = [str(image) for image in images if not Path(image).exists()]
        if absent:  # said before the gallery is embedded, which may take long
            raise InputError(f"{', '.join(absent)}: no such file; name photos that are there")
        gallery = self._annotations([name])
        found = self._find_model(model)
        network = _on_accelerator(found.load())
        outcome, _ = self._embed(gallery, found, network)
        gallery = self._annotations([name])  # once more: embedding fills in what was not known of the photos
        photos = queries.find_photos([Path(image) for image in images], queries.Asked(name, viewpoint, box), gallery)
        for photo in photos:
            if not is_allowed(policy_of[name], photo.viewpoint):
                raise InputError(
                    f"{photo.path}: seen from {photo.viewpoint or 'a viewpoint that is not known'}, and the policy of "
                    f"{name} in resight.toml is {describe(policy_of[name])}; give another --viewpoint or change it"
                )
        groups = queries.grouped(photos, same_animal=same_animal)
        row_of = outcome.embeddings.row_of()
        answers, entries = [], []
        for group in track(groups, "match", len(groups)):
            query, note = queries.make_query(group, name, network, network.config.image_size)
            answer = find_candidates(query, gallery, outcome.embeddings, row_of, policy_of[name], k=k, note=note)
            answers.append(answer)
            if html is not None:
                entries.append(sheet.SheetEntry(answer, queries.previews(group)))
        if html is not None:
            self._write_sheet(Path(html), entries, gallery, found.name)
        return answers

    def export(self, format: str, out: str | Path, *, split: str | None = None) -> Exported:
        """Write a dataset or an analysis file.

        Raises:
            NotBuiltYet: a format that is to come.
            UnknownName: no such format or split.
        """
        if format in SINKS_TO_COME:
            raise NotBuiltYet(f"export {format} is not built yet; there is: csv")
        if format != "csv":
            raise UnknownName.among("export format", format, ("csv",))
        _refuse_picture(out)
        with self.database.reading() as connection:
            annotations = store.list_annotations(connection, self.settings)
            frozen = None if split is None else store.load_split(connection, split)
        try:
            rows = write_csv(annotations, Path(out), frozen)
        except OSError as error:
            raise InputError(f"{out} cannot be written ({error.strerror}); name another file") from None
        return Exported(format, str(out), rows)

    def models(self) -> tuple[ModelCard, ...]:
        """The models at hand: packaged ones and the project's runs."""
        from resight.models.library import list_models

        return list_models(self.runs_folder)

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

    def _embed(
        self, annotations: Sequence[Annotation], found: FoundModel, network: Embedder, *, anew: bool = False
    ) -> tuple[EmbedOutcome, ChipSet]:
        from resight.embedding import embed, passport_for

        if not annotations:
            raise InputError("there is no annotation to embed; import a dataset first: resight import PATH")
        chips = self._chips(annotations, network.config.image_size)
        if not chips.keys:
            raise self._no_photos(chips)
        folder = self.folder / "embeddings" / found.name
        return embed(network, passport_for(network), chips, folder, name=found.name, anew=anew), chips

    def _no_photos(self, chips: ChipSet) -> InputError:
        return InputError(
            f"none of the {len(chips.failures)} photos can be used; the first: {chips.failures[0].message}; if the "
            "photos have moved, say where under [images.roots] in resight.toml"
        )

    def _write_sheet(self, target: Path, entries: Sequence[Any], gallery: Sequence[Annotation], model: str) -> None:
        from resight.catalogue.photos import PhotoReader
        from resight.errors import ImageError
        from resight.images import cut_preview
        from resight.matching import sheet

        by_id = {annotation.annotation_id: annotation for annotation in gallery}
        reader = PhotoReader(self.settings.image_roots)

        def preview(annotation_id: str) -> bytes | None:
            annotation = by_id[annotation_id]
            try:
                photo = reader.read(annotation)
                return cut_preview(
                    photo.content, photo.name, annotation.box, annotation.theta_rad, sheet.PREVIEW_PIXELS
                )
            except ImageError:
                return None

        dates = {annotation.annotation_id: annotation.taken_at or "" for annotation in gallery}
        sheet.write_sheet(target, entries, preview, model=model, project=self.folder.name, details=dates)


def _refuse_picture(out: str | Path | None) -> None:
    """An output never takes the place of a photo."""
    if out is not None and Path(out).suffix.lower() in SUFFIXES:
        raise InputError(f"{out} is named like a photo; name the file to write otherwise")


def _on_accelerator(network: Embedder) -> Embedder:
    import torch

    return network.to("cuda") if torch.cuda.is_available() else network


def _checked_name(kind: str, name: str) -> str:
    """Names of runs and splits become names of files."""
    if not name or name.startswith(".") or any(not (c.isalnum() or c in "-_.") for c in name):
        raise InputError(f"{kind} name {name!r}: expected letters, digits, '-', '_' and '.', and no '.' at its start")
    return name


def _moved_on(split: StoredSplit, annotations: Sequence[Annotation]) -> list[str]:
    """What has changed in the catalogue since a split was frozen, in words."""
    warnings = []
    frozen = [a for a in annotations if a.annotation_id in split.subset]
    changed = sum(
        (a.identity, a.encounter) != (split.identity[a.annotation_id], split.encounter[a.annotation_id]) for a in frozen
    )
    if changed:
        warnings.append(
            f"{changed} annotations of split {split.name!r} have another identity or encounter in the catalogue now; "
            "those of the split are used"
        )
    since = len(annotations) - int(split.report.get("catalogue_annotations", len(annotations)))
    if since:
        warnings.append(f"the catalogue holds {since:+,} annotations since split {split.name!r} was frozen")
    return warnings
