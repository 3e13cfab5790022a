"""What a project answers with a model: embed, evaluate, match."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from resight.artefacts import write_json
from resight.catalogue import store
from resight.catalogue.store import StoredSplit
from resight.errors import InputError, UnknownName
from resight.project.calibrated import CalibrationMethods
from resight.project.chosen import Models
from resight.project.folder import refuse_picture
from resight.types import Annotation

if TYPE_CHECKING:
    from resight.evaluation import Evaluation, TrainedOn
    from resight.models.library import FoundModel


@dataclass(frozen=True)
class EmbedReport:
    """What ``resight embed`` did.

    ``runtime`` names the precision as well; ``failures`` are photos that cannot be used: annotation_id → why.
    """

    model: str
    embedded: int
    reused: int
    images_per_second: float | None
    runtime: str
    failures: Mapping[str, str]


class ModelMethods(CalibrationMethods):
    """Methods that use a model."""

    def embed(
        self, *, model: str | None = None, split: str | None = None, runtime: str | None = None, anew: bool = False
    ) -> EmbedReport:
        """Make the vectors that annotations lack.

        Args:
            model: Its name; ``None``: the default model.
            split: Only annotations of this split.
            runtime: ``torch``, ``onnx`` or ``openvino``; ``None``: see
                :func:`resight.models.choosing.choose_runtime`.
            anew: Replace vectors that another model of this name made.

        Raises:
            ArtefactMismatch: the vectors that are there are another model's, or the export is of other weights.
            UnknownName: a split, model or runtime that is not there.
        """
        with self.database.reading() as connection:
            wanted = store.list_annotations(connection, self.settings)
            if split is not None:
                members = store.load_split(connection, split).subset
                wanted = [a for a in wanted if a.annotation_id in members]
        found = self._find_model(model)
        network = self._runtime(found, runtime)
        outcome, failures = self._embed(wanted, found.name, network, anew=anew)
        return EmbedReport(
            found.name,
            outcome.embedded,
            outcome.reused,
            outcome.images_per_second,
            network.made_by,
            {failure.annotation_id: failure.message for failure in failures},
        )

    def evaluate(
        self,
        *,
        split: str,
        model: Models = None,
        species: Sequence[str] | None = None,
        per_query: str | Path | None = None,
        against: str | None = None,
        rerank: str = "none",
    ) -> Evaluation:
        """Score a model on the test side of a split, one-vs-all per species; the report is kept as JSON.

        Args:
            split: A frozen split.
            model: Its name; ``None``: the default model; several answer as one, see
                :mod:`resight.ensemble.shares`. Where they were calibrated on this very split, one number a model and
                species has been fitted on what is scored here, and the result's warnings say so.
            species: Only these; no report is kept then.
            per_query: A CSV to write every query's candidates to.
            against: An older model to compare with, query by query.
            rerank: ``local`` puts each query's shortlist in the order of local evidence and cosine together; no report
                is kept then, nor may another model stand beside it.

        Raises:
            UnknownName: a split, model or species that is not there.
            InputError: ``against`` is the model itself; or several models that nobody has calibrated.
        """
        from resight.embedding import passport_for
        from resight.evaluation import evaluate

        refuse_picture(per_query)
        self._require_rerank(rerank)
        if against is not None and rerank != "none":
            raise InputError("--against compares embeddings; leave --rerank out with it")
        with self.database.reading() as connection:
            frozen = store.load_split(connection, split)
            annotations = store.list_annotations(connection, self.settings)
        in_test = [a for a in annotations if frozen.subset.get(a.annotation_id) == store.TEST]
        known = {frozen.species[a.annotation_id] for a in in_test}
        if not known:
            raise InputError(f"split {split!r} has no test annotations; freeze another one")
        UnknownName.require("species in the test side of the split", species or (), known)
        test = [a for a in in_test if species is None or frozen.species[a.annotation_id] in species]
        chosen = self._choose(model, split=split)
        old = None if against is None else self._find_model(against)
        old_network = None if old is None else self._runtime(old)
        if old_network is not None and passport_for(old_network) == chosen.passport:
            raise InputError(f"--against {against!r} is the same model as {chosen.name!r}; name the older one")
        embeddings = self._embed_chosen(test, chosen, frozen.species)
        compared = None
        if old is not None and old_network is not None:
            compared = self._embed(test, old.name, old_network)[0].embeddings
        result = evaluate(
            frozen,
            embeddings,
            species=species,
            per_query=None if per_query is None else Path(per_query),
            warnings=[*moved_on(frozen, annotations), *chosen.told(known if species is None else species, split)],
            trained_on=self._trained_on(chosen.found, frozen),
            against=compared,
            against_trained_on=None if old is None else self._trained_on([old], frozen),
            rerank=self._reranked(rerank, test, frozen),
        )
        result = replace(result, weights_hash=chosen.weights_hash)
        if species is None and rerank == "none":  # a part does not take the place of the whole
            versus = "" if old is None else f"-against-{old.name}"
            write_json(self.reports_folder / f"evaluate-{chosen.name}{versus}-{split}.json", result.as_json())
        return result

    def _trained_on(self, models: Sequence[FoundModel], split: StoredSplit) -> TrainedOn:
        """What any of the models was trained on."""
        from resight.evaluation import run_history, what_was_trained_on

        history = [run for one in models for run in run_history(one.folder, self.runs_folder)]
        with self.database.reading() as connection:
            there = {entry["name"] for entry in store.split_names(connection)}
            named = {run["split"] for run in history if run.get("split") in there} - {split.name}
            others = {name: store.load_split(connection, name) for name in sorted(named)}
        return what_was_trained_on(split, history, others)


def moved_on(split: StoredSplit, annotations: Sequence[Annotation]) -> list[str]:
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
