"""How good a model is on the test side of a frozen split: one-vs-all per species (paper §3.4), and the report.

Every test annotation is a query against all other test annotations of its species, itself and its own encounter left
out. Identities and encounters are those the split was frozen with. A second model may be set beside the first, on the
same queries; and what a model was trained on is held against the split, since figures on photos that were trained on
tell nothing.
"""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from resight.artefacts import write_csv
from resight.catalogue.store import SET_ASIDE, TEST, TRAIN, StoredSplit
from resight.comparison import Comparison, PairedScores, compare, pair
from resight.embedding import EmbeddingSet
from resight.errors import InputError, UnknownName
from resight.metrics import Macro, Summary, macro_average, rounded, summarise
from resight.models.config import CONFIG_FILE, read_config
from resight.models.library import MODEL_FOLDER
from resight.ranking import Ranking, codes_of, rank_one_vs_all

KEPT_CANDIDATES = 20

Rerank = Callable[[str, Sequence[str], Ranking], Ranking]
"""Species, annotation ids in the order of the ranking's rows, and their one-vs-all ranking → the same, reordered."""


@dataclass(frozen=True)
class TrainedOn:
    """What a model is known to have been trained on, as far as it matters to the test side of one split.

    Attributes:
        identities: The (species, identity) pairs that were trained on; ``None`` where it is the split's own training
            side that decides which test identities count as seen.
        test_annotations: Test annotations of the split that were trained on, or are of an encounter that was.
        remarks: Why the model's figures must not stand beside those of the split's protocol; empty where they may.
    """

    identities: frozenset[tuple[str, str]] | None = None
    test_annotations: frozenset[str] = frozenset()
    remarks: tuple[str, ...] = ()


@dataclass(frozen=True)
class SpeciesResult:
    """One species' figures, in percent, and what could not be scored."""

    species: str
    figures: Summary
    without_vector: int


@dataclass(frozen=True)
class Evaluation:
    """What ``resight evaluate`` prints.

    Attributes:
        model: The model's name.
        split: The split's name.
        species: One result each, by name.
        macro: The mean over species.
        comparable: False where the model is known to have been trained on more, or on something else, than the
            split's training side; ``warnings`` say on what.
        against: The comparison with an older model, where one was asked for.
        warnings: What the reader should know, such as a catalogue that has moved on since the split.
        weights_hash: Of the model, since another one may come to bear its name; ``None`` where it is not known.
    """

    model: str
    split: str
    species: tuple[SpeciesResult, ...]
    macro: Macro
    warnings: tuple[str, ...]
    comparable: bool = True
    against: Comparison | None = None
    weights_hash: str | None = None

    def as_json(self) -> dict[str, Any]:
        """The document of ``--json``: figures rounded to two decimals."""
        rows = [
            {"species": result.species, **rounded(asdict(result.figures)), "without_vector": result.without_vector}
            for result in self.species
        ]
        return {
            "model": self.model,
            "weights_hash": self.weights_hash,
            "split": self.split,
            "species": rows,
            "macro": rounded(asdict(self.macro)),
            "comparable": self.comparable,
            "warnings": list(self.warnings),
            **({} if self.against is None else {"against": self.against.as_json()}),
        }


@dataclass(frozen=True)
class _SpeciesTest:
    species: str
    annotation_ids: tuple[str, ...]
    without_vector: int
    labels: NDArray[np.int64]
    seen: NDArray[np.bool_]
    ranking: Ranking


@dataclass(frozen=True)
class _Vectors:
    table: EmbeddingSet
    row_of: Mapping[str, int]


def evaluate(
    split: StoredSplit,
    embeddings: EmbeddingSet,
    *,
    species: Sequence[str] | None = None,
    per_query: Path | None = None,
    warnings: Sequence[str] = (),
    trained_on: TrainedOn | None = None,
    against: EmbeddingSet | None = None,
    against_trained_on: TrainedOn | None = None,
    rerank: Rerank | None = None,
) -> Evaluation:
    """Score a model on the test side of a split, and compare it with an older one.

    The comparison is made on the annotations of which both models have vectors, as queries and as gallery, and without
    the queries that one of them was trained on. The model's own figures are the same with it and without.

    Args:
        split: Frozen.
        embeddings: Vectors of its test annotations; those without a vector are counted.
        species: Only these; ``None`` takes all of the split.
        per_query: A CSV to write every query's candidates to.
        warnings: Carried into the result.
        trained_on: What the model was trained on; ``None``: what the split says, as far as is known.
        against: Vectors of an older model.
        against_trained_on: What that one was trained on, likewise.
        rerank: Puts each species' ranking in another order, by evidence beyond the embedding.

    Raises:
        UnknownName: a species that the split does not hold.
        InputError: nothing to score or to compare, or ``per_query`` cannot be written.
    """
    trained_on, against_trained_on = trained_on or TrainedOn(), against_trained_on or TrainedOn()
    in_test: dict[str, list[str]] = defaultdict(list)
    for key, subset in split.subset.items():
        if subset == TEST:
            in_test[split.species[key]].append(key)
    chosen = sorted(in_test) if species is None else list(dict.fromkeys(species))
    UnknownName.require("species in the test side of the split", chosen, in_test)
    seen = _training_side(split) if trained_on.identities is None else trained_on.identities
    vectors = _Vectors(embeddings, embeddings.row_of())
    tests = [_rank_species(split, vectors, name, in_test[name], seen, rerank) for name in chosen]
    if not any(test.annotation_ids for test in tests):
        raise InputError(f"split {split.name!r} has no test annotation with a vector; make another split")
    comparison = None
    if against is not None:
        old = _Vectors(against, against.row_of())
        left_out = trained_on.test_annotations | against_trained_on.test_annotations
        pairs = (_pair(split, test, vectors, old, left_out) for test in tests)
        comparison = compare(against.model, pairs, comparable=not against_trained_on.remarks)
    if per_query is not None:
        try:
            _write_per_query(per_query, split, tests)
        except OSError as error:
            raise InputError(f"{per_query} cannot be written ({error.strerror}); name another file") from None
    results = tuple(
        SpeciesResult(test.species, summarise(test.ranking, test.labels, seen=test.seen), test.without_vector)
        for test in tests
    )
    missing = sum(result.without_vector for result in results)
    told = [*warnings, *trained_on.remarks]
    if missing:
        told.append(f"{missing} test annotations have no vector, since their photos cannot be used; they are left out")
    if comparison is not None:
        told += [*against_trained_on.remarks, *_left_out_of(comparison)]
    return Evaluation(
        embeddings.model,
        split.name,
        results,
        macro_average(result.figures for result in results),
        tuple(dict.fromkeys(told)),
        comparable=not trained_on.remarks,
        against=comparison,
    )


def what_was_trained_on(
    split: StoredSplit, runs: Sequence[Mapping[str, Any]], other_splits: Mapping[str, StoredSplit]
) -> TrainedOn:
    """Hold what a model was trained on against a split.

    Args:
        split: The split whose test side is scored.
        runs: The ``config.json`` of the run that made the model, and of those before it (:func:`run_history`);
            empty for a model of which nothing is known.
        other_splits: By name, the splits that the runs name and that are still there.
    """
    identities: set[tuple[str, str]] = set()
    leaked: set[str] = set()
    remarks: list[str] = []
    test = [key for key, subset in split.subset.items() if subset == TEST]
    for run in runs:
        name, on, with_set_aside = run.get("run"), run.get("split"), bool(run.get("set_aside_used"))
        classes = {(one["species"], one["identity"]) for one in run.get("classes") or ()}
        identities |= classes
        other = None if on is None else other_splits.get(on)
        if run.get("validated_on") == split.name:
            remarks.append(f"{name} was scored on the test side of split {split.name!r} after each epoch")
        if on is None:
            held_back = {(split.species[key], split.identity[key]) for key in test} - _training_side(split)
            if found := len(held_back & classes):
                remarks.append(
                    f"{name} was trained on {found} of the {len(held_back)} test identities that split {split.name!r} "
                    "keeps out of training; photos of its test side may have been trained on"
                )
        elif on == split.name and run.get("split_seed", split.seed) == split.seed:
            if with_set_aside:
                remarks.append(f"{name} was trained on set-aside identities, which the paper's protocol leaves out")
        elif other is None or run.get("split_seed", other.seed) != other.seed:
            remarks.append(
                f"{name} was trained on split {on!r}, which this catalogue does not hold as it was; photos of the test "
                f"side of split {split.name!r} may have been trained on"
            )
        else:
            trained = _trained_annotations(other, classes, with_set_aside=with_set_aside)
            encounters = {other.encounter[key] for key in trained}
            met = {key for key in test if key in trained or split.encounter[key] in encounters}
            leaked |= met
            remarks.append(
                f"{name} was trained on split {on!r}, not on {split.name!r}, and "
                + (
                    f"met {len(met)} of its {len(test)} test annotations there, or others of their encounters: "
                    "figures on these are too good"
                    if met
                    else "met no encounter of its test side there"
                )
            )
    return TrainedOn(frozenset(identities) if remarks else None, frozenset(leaked), tuple(remarks))


def run_history(model_folder: Path | None, runs_dir: Path) -> list[dict[str, Any]]:
    """The ``config.json`` of the run that made a model, and of the runs whose models it started from or learned from.

    A model outside the project's runs is taken for a run's where it has the same weights.

    Args:
        model_folder: The model's; ``None`` for a packaged one.
        runs_dir: The project's ``runs`` folder; need not exist.
    """
    made_by = {weights: run for run in sorted(runs_dir.glob("*")) if (weights := _weights_of(run / MODEL_FOLDER))}

    def run_of(model: Path) -> Path | None:
        is_in_run = model.name == MODEL_FOLDER and (model.parent / CONFIG_FILE).is_file()
        return model.parent if is_in_run else made_by.get(_weights_of(model) or "")

    waiting = [None if model_folder is None else run_of(model_folder)]
    seen, history = set[Path](), []
    while waiting:
        run = waiting.pop(0)
        if run is None or run in seen:
            continue
        seen.add(run)
        try:
            config = json.loads((run / CONFIG_FILE).read_text(encoding="utf-8"))
        except (OSError, ValueError):
            continue
        if not isinstance(config, dict):
            continue
        history.append(config)
        waiting.append(made_by.get(config.get("initial_weights_hash") or ""))
        for name in config.get("teachers") or ():  # as they were named: a run, or a model's folder
            named = runs_dir / name
            waiting.append(named if named.parent == runs_dir else run_of(Path(name)))
    return history


def _weights_of(model_folder: Path) -> str | None:
    try:
        return read_config(model_folder).weights_hash
    except InputError:
        return None


def _training_side(split: StoredSplit) -> frozenset[tuple[str, str]]:
    keys = (key for key, subset in split.subset.items() if subset == TRAIN)
    return frozenset((split.species[key], split.identity[key]) for key in keys)


def _trained_annotations(split: StoredSplit, classes: set[tuple[str, str]], *, with_set_aside: bool) -> set[str]:
    """A run may have been trained on some species of a split only; its classes tell."""
    sides = (TRAIN, SET_ASIDE) if with_set_aside else (TRAIN,)
    keys = (key for key, subset in split.subset.items() if subset in sides)
    return {key for key in keys if (split.species[key], split.identity[key]) in classes}


def _rank_species(
    split: StoredSplit,
    vectors: _Vectors,
    species: str,
    wanted: Sequence[str],
    trained: frozenset[tuple[str, str]],
    rerank: Rerank | None,
) -> _SpeciesTest:
    ids = [key for key in wanted if key in vectors.row_of]
    identities = [split.identity[key] for key in ids]
    seen = np.array([(species, identity) in trained for identity in identities], dtype=np.bool_)
    ranking = _rank(split, vectors, ids)
    if rerank is not None and ids:
        ranking = rerank(species, ids, ranking)
    return _SpeciesTest(species, tuple(ids), len(wanted) - len(ids), codes_of(identities), seen, ranking)


def _rank(split: StoredSplit, vectors: _Vectors, ids: Sequence[str]) -> Ranking:
    """Rank annotations of one species, each against all the others."""
    return rank_one_vs_all(
        np.asarray(vectors.table.vectors[[vectors.row_of[key] for key in ids]]),
        labels=codes_of([split.identity[key] for key in ids]),
        groups=codes_of([split.encounter[key] for key in ids]),
        k=KEPT_CANDIDATES,
    )


def _pair(
    split: StoredSplit, test: _SpeciesTest, new: _Vectors, old: _Vectors, trained_on: frozenset[str]
) -> PairedScores:
    """One species' queries as both models answer them; the new model's ranking is made anew only where it must."""
    ids = [key for key in test.annotation_ids if key in old.row_of]
    ranking = test.ranking if len(ids) == len(test.annotation_ids) else _rank(split, new, ids)
    return pair(
        test.species,
        _rank(split, old, ids),
        ranking,
        codes_of([split.identity[key] for key in ids]),
        trained_on=np.array([key in trained_on for key in ids], dtype=np.bool_),
        without_both_vectors=len(test.annotation_ids) + test.without_vector - len(ids),
    )


def _left_out_of(comparison: Comparison) -> list[str]:
    trained = sum(one.trained_on for one in comparison.species)
    lacking = sum(one.without_both_vectors for one in comparison.species)
    told = []
    if trained:
        told.append(f"{trained} queries are left out of the comparison, since a model was trained on their encounter")
    if lacking:
        told.append(f"{lacking} test annotations are left out of the comparison, since a model has no vector of them")
    return told


def _write_per_query(target: Path, split: StoredSplit, tests: Sequence[_SpeciesTest]) -> None:
    header = ("species", "query", "query_identity", "possible_matches", "rank", "candidate", "candidate_identity",
              "score", "match")  # fmt: skip
    write_csv(target, header, (row for test in tests for row in _per_query_rows(split, test)))


def _per_query_rows(split: StoredSplit, test: _SpeciesTest) -> Iterator[tuple[object, ...]]:
    ranking = test.ranking
    for query, query_id in enumerate(test.annotation_ids):
        for place, row in enumerate(ranking.neighbours[query]):
            if row < 0:
                break
            candidate = test.annotation_ids[row]
            yield (
                test.species,
                query_id,
                split.identity[query_id],
                int(ranking.n_possible[query]),
                place + 1,
                candidate,
                split.identity[candidate],
                f"{ranking.scores[query, place]:.6f}",
                int(ranking.is_match[query, place]),
            )
