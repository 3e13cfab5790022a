"""What a project does with local evidence and calibrations: compare keypoints, calibrate, rerank a ranking."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from resight.catalogue import store
from resight.errors import InputError, UnknownName
from resight.project.folder import ProjectFolder

if TYPE_CHECKING:
    from resight.artefacts import Passport
    from resight.calibrating import Costs, Judged
    from resight.calibration.stored import Calibration
    from resight.matching.local.comparer import LocalComparer
    from resight.matching.local.pairs import Numbers
    from resight.ranking import Ranking
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
    """

    model: str
    rerank: str
    path: Path
    judged: Judged


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
        model: str | None = None,
        rerank: str = "none",
        species: Sequence[str] | None = None,
        costs: Costs | None = None,
    ) -> Calibrated:
        """Fit P(same) and P(new) on the test side of a split, and judge them on identities held out.

        Args:
            split: Whose test side; a model is trained on the other.
            model: See :meth:`resight.project.Project.match`.
            rerank: ``local`` takes local evidence in.
            species: Only these.
            costs: Of a missed match and a false one, for the operating point.

        Raises:
            UnknownName: no such split, model or species.
            InputError: nothing to compare.
        """
        from resight.calibrating import calibrate, shortlists_of, suggested_shares
        from resight.calibration.stored import passport_of, write_calibration
        from resight.embedding import passport_for

        self._require_rerank(rerank)
        with self.database.reading() as connection:
            frozen = store.load_split(connection, split)
            revision = store.revision(connection)
            policy_of = store.policies(connection, self.settings)
            annotations = store.list_annotations(connection, self.settings)
        UnknownName.require("species", species or (), set(frozen.species.values()))
        found = self._find_model(model)
        network = self._runtime(found)
        test = [a for a in annotations if frozen.subset.get(a.annotation_id) == store.TEST]
        outcome, _ = self._embed(test, found.name, network)
        comparers = self._comparers({frozen.species[a.annotation_id] for a in test}) if rerank == "local" else {}
        shortlist = self._shortlist(rerank)
        lists = shortlists_of(frozen, test, outcome.embeddings, policy_of, depth=2 * shortlist, species=species)
        local = None
        if comparers:
            by_id = {a.annotation_id: a for a in test}
            local = self._local_arrays(
                [by_id[key] for key in lists.ids],
                [[lists.ids[row] for row in near if row >= 0] for near in lists.neighbours],
                comparers,
                species_of=frozen.species,
                width=2 * shortlist,
            )
        passport = passport_of(
            passport_for(network).decides,
            shortlist=shortlist,
            local_key=self._local_key(rerank),
            model=found.name,
            split=split,
            catalogue_revision=revision,
        )
        shares = suggested_shares(annotations)
        judged = calibrate(lists, local, passport, shares, shortlist=shortlist, costs=costs)
        path = self._calibration_file(found.name, rerank)
        write_calibration(judged.calibration, path)
        return Calibrated(found.name, rerank, path, judged)

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
        return comparers

    def _shortlist(self, rerank: str) -> int:
        """As many candidates as get a probability."""
        return self.settings.local.shortlist if rerank == "local" else DEFAULT_SHORTLIST

    def _local_key(self, rerank: str) -> str | None:
        from resight.matching.local.comparer import rules_key

        return rules_key(self.settings.local, self.settings.local_of) if rerank == "local" else None

    def _local_arrays(
        self,
        queries: Sequence[Annotation],
        candidates: Sequence[Sequence[str]],
        comparers: Mapping[str, LocalComparer],
        *,
        species_of: Mapping[str, str],
        width: int,
    ) -> dict[str, Numbers]:
        """Local evidence of many pairs, (queries, width); NaN where there is none."""
        from resight.calibration.evidence import LOCAL_FEATURES

        found = {name: np.full((len(queries), width), np.nan) for name in LOCAL_FEATURES}
        by_species: dict[str, list[int]] = {}
        for row, one in enumerate(queries):
            by_species.setdefault(species_of[one.annotation_id], []).append(row)
        with self.database.reading() as connection:
            outlines = store.outlines(connection, [one.annotation_id for one in queries])
        for name, rows in sorted(by_species.items()):
            comparer = comparers[name]
            features = comparer.features([queries[row] for row in rows], outlines)
            numbers = comparer.compare_all(
                [queries[row].annotation_id for row in rows], [candidates[row] for row in rows], features
            )
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
            local = self._local_arrays(
                [by_id[key] for key in ids],
                [[ids[row] for row in rows if row >= 0] for rows in near],
                comparers,
                species_of=split.species,
                width=width,
            )
            return reorder(ranking, fused_scores(species, ids, ranking, local, split))

        return by_local

    def _require_rerank(self, rerank: str) -> None:
        if rerank not in RERANKS:
            raise InputError(f"--rerank {rerank!r}: expected {' or '.join(RERANKS)}")
