"""What a project does to get models and to give them away: train, tune, publish, export-model, models."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from filelock import FileLock, Timeout

from resight.catalogue import store
from resight.errors import InputError, UnknownName
from resight.project.catalogued import CatalogueMethods
from resight.project.folder import checked_name

if TYPE_CHECKING:
    from resight.models.embedder import Embedder
    from resight.models.exporting import ExportedModel
    from resight.models.library import ModelCard
    from resight.models.publishing import Published
    from resight.training.loop import Job, TrainResult
    from resight.training.recipe import Recipe
    from resight.training.tune import TuneResult


class TrainingMethods(CatalogueMethods):
    """Methods that make models."""

    def train(self, run: str, *, split: str, devices: int = 1, **job: Any) -> TrainResult:
        """Train one model for all the species of a split's training side.

        Args:
            run: Its name.
            split: A frozen split.
            devices: Processes on this machine, one an accelerator.
            **job: As in :meth:`training_job`.

        Raises:
            InputError: a taken name, an unknown split, species or recipe, an impossible setting.
            TrainingError: training cannot go on.
        """
        from resight.training.loop import train

        self._check_start(run, **job)
        prepared = self.training_job(run, split=split, **job)
        folder = prepared.run_dir
        folder.parent.mkdir(parents=True, exist_ok=True)
        try:
            with FileLock(folder.with_name(f".{run}.lock"), timeout=0):
                return train(prepared, devices=devices)
        except Timeout:
            raise InputError(f"run {run!r} is being trained by another process; wait for it, or name another") from None

    def tune(
        self,
        *,
        split: str,
        trials: int,
        name: str | None = None,
        recipe: str | None = None,
        settings: Mapping[str, str] | None = None,
        validate_on: str | None = None,
        **job: Any,
    ) -> TuneResult:
        """Search for better settings of a recipe; what is found is the recipe ``name`` of this project from then on.

        Args:
            split: Frozen; trials train on, and are scored on, parts of its training side.
            trials: How many there shall be, those of earlier calls counted.
            name: Of the search and of its recipe; ``None``: the split's and the recipe's.
            recipe: Where to begin; ``None``: as of :meth:`train`.
            settings: Changes of the recipe, which are not searched.
            validate_on: Tune on the two sides of this split instead; the result says what that leaks.
            **job: ``species``, ``backbone`` and ``init`` as in :meth:`training_job`.

        Raises:
            InputError: as of :meth:`train`, or optuna is not installed.
            ArtefactMismatch: a search of that name was made with something else.
            TrainingError: no trial could be trained.
        """
        from resight.training import tune as tuning
        from resight.training.presets import preset

        tuning.require_optuna()
        base = preset(recipe or _default_recipe(), self._own_recipes())
        given = dict(settings or {})
        share = tuning.held_out_share(base.with_settings(given), split, validate_on)
        chosen = checked_name("recipe", name or f"{split}-{base.name}")
        tuning.check_name(chosen, base)
        with self.database.reading() as connection:
            frozen = store.load_split(connection, split)
        inner = {**given, "validation_share": str(share)}
        made = self.training_job(chosen, split=validate_on or split, recipe=base.name, settings=inner,
                                 validate_on=validate_on, **job)  # fmt: skip
        leaks = None if validate_on is None else tuning.leak(frozen, validate_on, made.samples, made.held_out)
        fixed = {*given, *(("backbone",) if job.get("backbone") else ())}
        origin = {**made.origin, "tuned_for": split}
        made = replace(made, run_dir=self.folder / "tuning" / chosen, origin=origin)
        return tuning.tune(made, base=base, trials=trials, fixed=fixed, leaks=leaks)

    def plan_training(self, run: str, *, split: str, **job: Any) -> Path:
        """Write the plan of a run for workers on other machines, and train nothing; gives the run's folder.

        Args:
            run: Its name.
            split: A frozen split.
            **job: As in :meth:`training_job`.

        Raises:
            InputError: as of :meth:`train`.
        """
        from resight.training.plan import write_plan

        self._check_start(run, **job)
        return write_plan(self.training_job(run, split=split, **job))

    def _check_start(self, run: str, *, resume: bool = False, trackers: Sequence[str] = (), **_: Any) -> None:
        """Refuse at once what would be refused after the chips are cut, which may take hours."""
        from resight.training.start import check_name
        from resight.training.tracking import check_trackers

        check_name(self.runs_folder / checked_name("run", run), resume=resume)
        check_trackers(trackers)

    def training_job(
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
        teachers: Sequence[str] = (),
        trackers: Sequence[str] = (),
        validate_on: str | None = None,
    ) -> Job:
        """Everything a training run is given: the recipe, and the chips of the training side, cut where they lack.

        Args:
            run: Its name.
            split: A frozen split.
            recipe: Its name; ``None``: ``tuned`` on an accelerator, else ``tiny``; a resumed run keeps its own.
            settings: Changes of the recipe, as ``--set``.
            species: Only these.
            backbone: Another than the recipe's.
            init: A model to start from; its backbone is the recipe's then, and with ``finetune`` its chip size.
            resume: Go on with the run; species, teachers and the model it starts from need not be named again.
            teachers: Models whose cosines the new one learns to repeat, with the recipe's ``distil_weight``.
            trackers: ``tensorboard`` or ``wandb``, besides the log.
            validate_on: Score each epoch on the test side of this split. It leaks where that side is trained on here.

        Raises:
            InputError: an unknown split, species, model or recipe, an impossible setting.
        """
        from resight.training.assembly import hold_out, samples_of, test_side, training_side, without_chips
        from resight.training.checkpoint import has_checkpoint, read_run_config
        from resight.training.loop import Job

        run_folder = self.runs_folder / checked_name("run", run)
        if resume:
            stored = read_run_config(run_folder)
            species, teachers = species or stored.get("species"), teachers or stored.get("teachers", ())
            if not has_checkpoint(run_folder):
                init = init or stored.get("init")
        initial = None if init is None else self._find_model(init).load()
        chosen = self._recipe(run_folder, recipe, {"backbone": backbone} if backbone else {}, settings, initial, resume)
        with self.database.reading() as connection:
            frozen = store.load_split(connection, split)
            other = None if validate_on is None else store.load_split(connection, validate_on)
            members = store.list_annotations(connection, self.settings)
            policy_of = store.policies(connection, self.settings)
        in_training, held_out = hold_out(training_side(frozen, members, chosen, species), chosen)
        if other is not None:
            held_out = test_side(other, members, species)
        chips = self._chips([*in_training, *held_out], chosen.image_size)
        if in_training and not chips.keys:
            raise self._no_photos(chips.failures)
        known = [self._embed(in_training, found.name, self._runtime(found))[0].embeddings
                 for found in map(self._find_model, teachers)]  # fmt: skip
        return Job(
            samples=samples_of(in_training, chips, policy_of),
            recipe=chosen,
            run_dir=run_folder,
            initial=initial,
            held_out=samples_of(held_out, chips, policy_of),
            teachers=[{name: set_.vectors[row] for name, row in set_.row_of().items()} for set_ in known],
            left_out=without_chips(chips),
            origin={
                "split": split,
                "split_seed": frozen.seed,
                "set_aside_used": any(frozen.subset[a.annotation_id] == store.SET_ASIDE for a in in_training),
                "species": None if species is None else list(species),
                "init": init,
                "validated_on": validate_on,
                "teachers": list(teachers),
            },
            trackers=trackers,
            resume=resume,
        )

    def _recipe(
        self,
        run_folder: Path,
        name: str | None,
        overrides: Mapping[str, str],
        settings: Mapping[str, str] | None,
        initial: Embedder | None,
        resume: bool,
    ) -> Recipe:
        from resight.training.checkpoint import read_run_config
        from resight.training.presets import preset
        from resight.training.recipe import Recipe

        if resume and name is None:  # a run goes on as it was started, without its settings being said again
            chosen = Recipe.from_json(read_run_config(run_folder)["recipe"])
        else:
            chosen = preset(name or _default_recipe(), self._own_recipes())
            if initial is not None:
                own = initial.config
                if chosen.weights == "init":
                    chosen = replace(chosen, image_size=own.image_size)
                chosen = replace(
                    chosen, weights="init", backbone=own.backbone, output_stride=own.output_stride,
                    gem_levels=own.gem_levels, gem_columns=own.gem_columns,
                )  # fmt: skip
                if "weights" in (settings or {}):
                    raise InputError("--init and --weights both name what to start from: give one of them")
            elif chosen.weights == "init" and "weights" not in (settings or {}):
                raise InputError(f"recipe {chosen.name!r} goes on from a model: name it with --init MODEL")
        return chosen.with_settings({**overrides, **(settings or {})})

    def _own_recipes(self) -> Mapping[str, Mapping[str, Any]]:
        """The recipes of ``resight.toml``, and those that tuning has found and that are not named there."""
        from resight.training.study import found_recipes

        return {**found_recipes(self.folder / "tuning"), **self.settings.recipes}

    def publish(self, run: str, target: str, *, licence: str | None = None, public: bool = False) -> Published:
        """Write a run's model with its card for others: into a folder, or to ``hub:OWNER/NAME``.

        Raises:
            UnknownName: no run of that name.
            InputError: the run has no model yet, or see :func:`resight.models.publishing.publish`.
            ResightError: the hub does not answer.
        """
        from resight.models.config import read_config
        from resight.models.library import MODEL_FOLDER, find_model
        from resight.models.model_card import CataloguedSpecies, RunRecord
        from resight.models.publishing import publish, read_evaluations
        from resight.training.checkpoint import read_run_config

        folder = self.runs_folder / checked_name("run", run)
        if not (folder / "config.json").is_file():
            known = [path.parent.name for path in self.runs_folder.glob("*/config.json")]
            raise UnknownName.among("run", run, known, "only what was trained in this project is published")
        find_model(run, self.runs_folder)  # refuses a run that has not written its model yet
        model_folder = folder / MODEL_FOLDER
        evaluations, warnings = read_evaluations(self.reports_folder, run, read_config(model_folder).weights_hash)
        catalogue = tuple(CataloguedSpecies(row.species, row.sources, row.policy) for row in self.stats().species)
        record = RunRecord(run, read_run_config(folder), catalogue, evaluations)
        return publish(model_folder, record, target, licence=licence, public=public, warnings=warnings)

    def export_model(self, model: str, format: str, *, out: str | Path | None = None) -> ExportedModel:
        """Write a model as ONNX or OpenVINO, compared with the network on chips of the project where it has some.

        Args:
            model: A run's name, or any other model's.
            format: ``onnx`` or ``openvino``.
            out: A folder; ``None`` takes the place where ``embed`` looks for it.

        Raises:
            UnknownName: no such model or format.
            InputError: a Python package is missing, or ``out`` holds something else.
            ArtefactMismatch: the file does not agree with the network; nothing is kept.
        """
        from resight.models.choosing import export_folder, export_found

        found = self._find_model(model)
        folder = export_folder(found, self.folder, format)
        return export_found(found, format, folder if out is None else Path(out), chips_root=self.folder / "chips")

    def models(self) -> tuple[ModelCard, ...]:
        """The models at hand: packaged ones and the project's runs."""
        from resight.models.library import list_models

        return list_models(self.runs_folder)


def _default_recipe() -> str:
    import torch

    return "tuned" if torch.cuda.is_available() else "tiny"
