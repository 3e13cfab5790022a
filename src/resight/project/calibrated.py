"""What a project does with local evidence and calibrations: compare keypoints, calibrate, rerank a ranking."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from resight.catalogue import store
from resight.errors import InputError, UnknownName
from resight.project.chosen import Chosen, Models, find_each, opened
from resight.project.folder import ProjectFolder

if TYPE_CHECKING:
    from resight.artefacts import Passport
    from resight.calibrating import Costs, Judged
    from resight.calibration.stored import Calibration
    from resight.embedding import EmbeddingSet
    from resight.matching.local.comparer import LocalComparer
    from resight.matching.local.pairs import Numbers
    from resight.ranking import Ints, Ranking
    from resight.settings import Policy
    from resight.types import Annotation

RERANKS = ("none", "local")
DEFAULT_SHORTLIST = 20  # candidates whose P(same) a calibration of the cosine alone gives


@dataclass(frozen=True)
class Calibrated:
    """What ``resight calibrate`` did.

    Attributes:
        model: The model's name.
        rerank: ``local`` where local evidence is part of it.
        path: The file.
        judged: The calibration with its figures, and those of the best cosine.
        shares: Species → model → how much it counts, where several answer as one.
    """

    model: str
    rerank: str
    path: Path
    judged: Judged
    shares: Mapping[str, Mapping[str, float]] = field(default_factory=dict)


class CalibrationMethods(ProjectFolder):
    """Methods about evidence beyond the cosine, and what probabilities it stands for."""

    @property
    def local_folder(self) -> Path:
        """Keypoints and the numbers of pairs."""
        return self.folder / "local"

    def calibrate(
        self,
        *,
        split: str,
        model: Models = None,
        rerank: str = "none",
        species: Sequence[str] | None = None,
        costs: Costs | None = None,
        recall: float | None = None,
    ) -> Calibrated:
        """Fit P(same) and P(new) on the test side of a split, and judge them on identities held out.

        Args:
            split: Whose test side; a model is trained on the other.
            model: See :meth:`resight.project.Project.match`. Of several it is fitted first how much each counts, on all
                of these identities: one number a model and species, which the figures of held-out ones have seen.
            rerank: ``local`` takes local evidence in.
            species: Only these.
            costs: Of a missed match and a false one, for the operating point.
            recall: The share of queries whose shortlist is to hold the right animal: each species gets the shortest
                that does, up to ``[local] shortlist``. ``None``: all have that one.

        Raises:
            UnknownName: no such split, model or species.
            InputError: nothing to compare; a recall that is no share, or without local evidence; a model named twice.
        """
        from resight.calibrating import calibrate, suggested_shares
        from resight.calibration.shortlists import lengths_of, shortlists_of
        from resight.calibration.stopping import require_recall
        from resight.calibration.stored import passport_of, write_calibration

        self._require_rerank(rerank)
        if recall is not None:
            require_recall(recall)
            if rerank != "local":
                raise InputError(f"--recall {recall:g} is about what local evidence compares: add --rerank local")
        with self.database.reading() as connection:
            frozen = store.load_split(connection, split)
            revision = store.revision(connection)
            policy_of = store.policies(connection, self.settings)
            annotations = store.list_annotations(connection, self.settings)
        UnknownName.require("species", species or (), set(frozen.species.values()))
        chosen = self._open(model)
        test = [a for a in annotations if frozen.subset.get(a.annotation_id) == store.TEST]
        chosen, embeddings = self._embed_fitting(test, chosen, frozen, policy_of)
        shortlist = self._shortlist(rerank)
        lists = shortlists_of(frozen, test, embeddings, policy_of, depth=2 * shortlist, species=species)
        comparers = self._comparers({group.species for group in lists.groups}) if rerank == "local" else {}
        local, lengths = None, None
        if comparers:
            lengths = lengths_of(lists, wanted=recall, longest=shortlist)
            twice = lists.each({name: 2 * one.candidates for name, one in lengths.items()}, 2 * shortlist)
            lists = lists.cut(twice.astype(np.int64))
            by_id = {a.annotation_id: a for a in test}
            queries = [by_id[key] for key in lists.ids]
            local = self._local_arrays(queries, lists.neighbours, comparers, species_of=frozen.species)
        passport = passport_of(
            chosen.passport.decides,
            shortlist=shortlist,
            local_key=self._local_key(rerank),
            model=chosen.name,
            split=split,
            catalogue_revision=revision,
        )
        shares = suggested_shares(annotations)
        judged = calibrate(lists, local, passport, shares, shortlist=shortlist, lengths=lengths, costs=costs)
        path = self._calibration_file(chosen.name, rerank)
        write_calibration(judged.calibration, path)
        chosen.keep_shares(self._shares_file(chosen.name))
        return Calibrated(chosen.name, rerank, path, judged, chosen.shares(judged.calibration.fusion.support))

    def _open(self, models: Models) -> Chosen:
        """Open a model, or several as equals.

        Raises:
            UnknownName: there is none of a name.
            InputError: one is named twice.
        """
        found = find_each(models, self._find_model)
        return opened(found, tuple(self._runtime(one) for one in found))

    def _choose(self, models: Models, *, split: str = "SPLIT") -> Chosen:
        """Open a model, or several as one, each of which counts as it has been calibrated.

        Args:
            models: As the user names them.
            split: What they may be calibrated on, for the message.

        Raises:
            UnknownName: there is none of a name.
            InputError: one is named twice, or nobody has calibrated them.
            ArtefactMismatch: a calibration was made from something else.
        """
        chosen = self._open(models)

        def alone(name: str, passport: Passport) -> Calibration | None:
            return self._calibration(name, "none", passport)

        return chosen.weighed(self._shares_file(chosen.name), alone, split)

    def _embed_chosen(
        self, annotations: Sequence[Annotation], chosen: Chosen, species_of: Mapping[str, str]
    ) -> EmbeddingSet:
        """Vectors of one model, or the joint ones of several."""
        return chosen.join(self._embed_each(annotations, chosen), species_of)

    def _embed_each(self, annotations: Sequence[Annotation], chosen: Chosen) -> list[EmbeddingSet]:
        return [
            self._embed(annotations, one.name, network)[0].embeddings
            for one, network in zip(chosen.found, chosen.networks, strict=True)
        ]

    def _embed_fitting(
        self, test: Sequence[Annotation], chosen: Chosen, split: store.StoredSplit, policy_of: Mapping[str, Policy]
    ) -> tuple[Chosen, EmbeddingSet]:
        """The vectors of a split's test side; of several models with what each counts, as it is fitted there."""
        from resight.calibration.shortlists import shortlists_of
        from resight.ensemble.shares import DEPTH

        sets = self._embed_each(test, chosen)
        if chosen.ensemble is not None:
            lists = shortlists_of(split, test, chosen.join(sets, split.species), policy_of, depth=DEPTH)
            chosen = chosen.fitted(sets, lists, split.name)
        return chosen, chosen.join(sets, split.species)

    def _shares_file(self, name: str) -> Path:
        return self.folder / "calibrations" / name / "shares.json"

    def _calibration_file(self, model: str, rerank: str) -> Path:
        return self.folder / "calibrations" / model / f"{'cosine' if rerank == 'none' else rerank}.json"

    def _calibration(self, model: str, rerank: str, embeddings: Passport) -> Calibration | None:
        """The calibration that fits, ``None`` where nobody has made one.

        Raises:
            ArtefactMismatch: one that was made from something else.
        """
        from resight.calibration.stored import load_calibration, passport_of

        path = self._calibration_file(model, rerank)
        if not path.is_file():
            return None
        expected = passport_of(
            embeddings.decides,
            shortlist=self._shortlist(rerank),
            local_key=self._local_key(rerank),
            model=model,
            split="",
            catalogue_revision=0,
        )
        return load_calibration(path, expected)

    def _comparers(self, species: Iterable[str]) -> dict[str, LocalComparer]:
        """Species → what compares its keypoints; species with the same rules share one."""
        from resight.matching.local.comparer import LocalComparer
        from resight.models.choosing import best_device

        by_rules: dict[object, LocalComparer] = {}
        comparers = {}
        for name in sorted(species):
            rules = self.settings.local_rules(name)
            if rules not in by_rules:
                by_rules[rules] = LocalComparer(
                    rules, self.local_folder, self.settings.image_roots, device=best_device()
                )
            comparers[name] = by_rules[rules]
            if comparers[name].lacks_look(name):
                comparers[name].learn_look(self._annotations([name]))
        return comparers

    def _shortlist(self, rerank: str, calibration: Calibration | None = None, species: str = "") -> int:
        """As many candidates as get a probability: as a calibration found for the species, else as the settings say."""
        if calibration is not None and species in calibration.lengths:
            return calibration.lengths[species].candidates
        return self.settings.local.shortlist if rerank == "local" else DEFAULT_SHORTLIST

    def _local_key(self, rerank: str) -> str | None:
        from resight.matching.local.comparer import rules_key

        return rules_key(self.settings.local, self.settings.local_of) if rerank == "local" else None

    def _local_arrays(
        self,
        queries: Sequence[Annotation],
        neighbours: Ints,
        comparers: Mapping[str, LocalComparer],
        *,
        species_of: Mapping[str, str],
    ) -> dict[str, Numbers]:
        """Local evidence of each query with its (queries, width) neighbours, rows of the queries; NaN beside −1."""
        from resight.calibration.evidence import LOCAL_FEATURES

        ids = [one.annotation_id for one in queries]
        candidates = [[ids[row] for row in near if row >= 0] for near in neighbours]
        found = {name: np.full(neighbours.shape, np.nan) for name in LOCAL_FEATURES}
        by_species: dict[str, list[int]] = {}
        for row, one in enumerate(queries):
            by_species.setdefault(species_of[one.annotation_id], []).append(row)
        with self.database.reading() as connection:
            outlines = store.outlines(connection, ids)
        for name, rows in sorted(by_species.items()):
            comparer = comparers[name]
            features = comparer.features([queries[row] for row in rows], outlines)
            numbers = comparer.compare_all([ids[row] for row in rows], [candidates[row] for row in rows], features)
            for feature, values in numbers.items():
                found[feature][rows, : values.shape[1]] = values
        return found

    def _reranked(
        self, rerank: str, annotations: Sequence[Annotation], split: store.StoredSplit
    ) -> Callable[[str, Sequence[str], Ranking], Ranking] | None:
        """What puts the rankings of an evaluation in the order of local evidence; ``None`` leaves them."""
        from resight.calibrating import fused_scores
        from resight.reranking import rerank as reorder

        if rerank == "none":
            return None
        by_id = {a.annotation_id: a for a in annotations}

        def by_local(species: str, ids: Sequence[str], ranking: Ranking) -> Ranking:
            comparers = self._comparers([species])
            width = min(self._shortlist(rerank), ranking.neighbours.shape[1])
            near = ranking.neighbours[:, :width]
            local = self._local_arrays([by_id[key] for key in ids], near, comparers, species_of=split.species)
            return reorder(ranking, fused_scores(species, ids, ranking, local, split))

        return by_local

    def _require_rerank(self, rerank: str) -> None:
        if rerank not in RERANKS:
            raise InputError(f"--rerank {rerank!r}: expected {' or '.join(RERANKS)}")
