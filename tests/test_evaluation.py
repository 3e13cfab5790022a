from __future__ import annotations

import csv
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from resight.catalogue.store import StoredSplit
from resight.embedding import EmbeddingSet
from resight.errors import InputError, UnknownName
from resight.evaluation import Evaluation, TrainedOn, evaluate, run_history, what_was_trained_on
from resight.models.config import EmbedderConfig, config_text

Rows = list[tuple[str, str, str, str, str]]
"""annotation_id, species, identity, encounter, subset."""


def split_of(rows: Rows, name: str = "first", seed: int = 0) -> StoredSplit:
    subset, identity, encounter, species = (
        {row[0]: row[place] for row in rows} for place in (4, 2, 3, 1)
    )  # fmt: skip
    return StoredSplit(name, "paper", seed, 1, "2024-01-01T00:00:00+00:00", subset, identity, encounter, species, {})


def embeddings_of(vectors: dict[str, Any], model: str = "net") -> EmbeddingSet:
    names = tuple(sorted(vectors))
    table = np.stack([np.asarray(vectors[name], np.float16) for name in names])
    return EmbeddingSet(model, names, names, table)


def drawn(seed: int, per_species: int = 30, dim: int = 6) -> tuple[Rows, dict[str, Any]]:
    """Two species with shared names of identities and encounters, in random order; a few vectors alike within one."""
    rng = np.random.default_rng(seed)
    rows: Rows = []
    vectors = {}
    for species in ("lion", "zebra"):
        centres = rng.normal(size=(8, dim))
        for number in range(per_species):
            identity = int(rng.integers(0, 8))
            name = f"{species[0]}{number:02}"
            subset = "test" if number < per_species * 0.7 else "train" if identity % 2 else "set_aside"
            rows.append((name, species, f"i{identity}", f"e{identity}-{int(rng.integers(0, 3))}", subset))
            vectors[name] = centres[identity] + rng.normal(size=dim)
    return [rows[place] for place in rng.permutation(len(rows))], vectors


def naive(rows: Rows, vectors: dict[str, Any], species: str) -> dict[str, Any]:
    """The paper's protocol, one query at a time."""
    test = [row for row in rows if row[1] == species and row[4] == "test" and row[0] in vectors]
    trained = {row[2] for row in rows if row[1] == species and row[4] == "train"}
    unit = {row[0]: np.asarray(vectors[row[0]], np.float16).astype(np.float64) for row in test}
    unit = {name: vector / np.linalg.norm(vector) for name, vector in unit.items()}
    found: dict[str, Any] = {"excluded": 0, "hits": {1: [], 5: [], 10: [], 20: []}, "ap": [], "seen": [], "unseen": []}
    individuals = set()
    for query in test:
        others = [row for row in test if row[0] != query[0] and row[3] != query[3]]
        others.sort(key=lambda row: -float(unit[query[0]] @ unit[row[0]]))
        ranks = [place for place, row in enumerate(others, start=1) if row[2] == query[2]]
        if not ranks:
            found["excluded"] += 1
            continue
        individuals.add(query[2])
        for k, hits in found["hits"].items():
            hits.append(ranks[0] <= k)
        found["ap"].append(np.mean([place / rank for place, rank in enumerate(ranks, start=1)]))
        found["seen" if query[2] in trained else "unseen"].append(ranks[0] == 1)
    found["individuals"] = len(individuals)
    found["queries"] = len(found["ap"])
    found["missing"] = sum(row[1] == species and row[4] == "test" and row[0] not in vectors for row in rows)
    return found


def percent(values: list[Any]) -> Any:
    return pytest.approx(100 * float(np.mean(values))) if values else None


def assert_agrees(result: Evaluation, rows: Rows, vectors: dict[str, Any]) -> None:
    for one in result.species:
        expected = naive(rows, vectors, one.species)
        figures = one.figures
        assert (figures.queries, figures.individuals, figures.excluded) == (
            expected["queries"], expected["individuals"], expected["excluded"],
        )  # fmt: skip
        for name, k in (("top1", 1), ("top5", 5), ("top10", 10), ("top20", 20)):
            assert getattr(figures, name) == percent(expected["hits"][k])
        assert figures.map == percent(expected["ap"])
        assert figures.top1_seen == percent(expected["seen"])
        assert figures.top1_unseen == percent(expected["unseen"])
        assert figures.top1_excluded_as_misses == percent(expected["hits"][1] + [False] * expected["excluded"])
        assert one.without_vector == expected["missing"]


@settings(max_examples=25, deadline=None)
@given(seed=st.integers(0, 10_000), size=st.integers(6, 40))
def test_the_figures_are_those_of_a_loop_over_the_queries(seed: int, size: int) -> None:
    rows, vectors = drawn(seed, size)
    result = evaluate(split_of(rows), embeddings_of(vectors))
    assert [one.species for one in result.species] == ["lion", "zebra"]
    assert_agrees(result, rows, vectors)
    top1 = [one.figures.top1 for one in result.species if one.figures.top1 is not None]
    assert result.macro.top1 == percent([value / 100 for value in top1])


def test_a_case_worked_by_hand() -> None:
    # Two lions in three encounters each. A's photos agree; b2 looks like A.
    rows = [
        ("a1", "lion", "A", "A-mon", "test"),
        ("a2", "lion", "A", "A-tue", "test"),
        ("a3", "lion", "A", "A-tue", "test"),  # the same encounter as a2
        ("b1", "lion", "B", "B-mon", "test"),
        ("b2", "lion", "B", "B-tue", "test"),
        ("c1", "lion", "C", "C-mon", "test"),  # alone: no match is possible
        ("t1", "lion", "A", "A-wed", "train"),
        ("z1", "zebra", "B", "B-mon", "train"),  # another species' B does not make the lion B a seen one
    ]
    vectors = {
        "a1": (1, 0, 0), "a2": (1, 0.1, 0), "a3": (1, 0.2, 0), "b1": (0, 1, 0), "b2": (1, 0.3, 0), "c1": (0, 0, 1),
        "t1": (1, 0.31, 0), "z1": (0, 1, 0),
    }  # fmt: skip
    result = evaluate(split_of(rows), embeddings_of(vectors))
    [lion] = result.species
    # Nearest, own encounter left out: a1 a2 (hit), a2 a1 (hit; b2 is farther), a3 b2 (miss), b1 b2 (hit), b2 a3 (miss).
    assert lion.figures.queries == 5
    assert lion.figures.individuals == 2
    assert lion.figures.excluded == 1
    assert lion.figures.top1 == pytest.approx(60)
    assert lion.figures.top5 == 100
    assert lion.figures.top1_excluded_as_misses == pytest.approx(50)
    assert (lion.figures.queries_seen, lion.figures.queries_unseen) == (3, 2)
    assert lion.figures.top1_seen == pytest.approx(100 * 2 / 3)
    assert lion.figures.top1_unseen == pytest.approx(50)
    # Average precision: both matches of a1 come first, 1; a2 1; a3's comes second, 1/2; b1 1; b2's after all of A, 1/4.
    assert lion.figures.map == pytest.approx(100 * (1 + 1 + 1 / 2 + 1 + 1 / 4) / 5)


def test_what_the_split_was_frozen_with_decides_and_nothing_else() -> None:
    rows, vectors = drawn(3)
    before = evaluate(split_of(rows), embeddings_of(vectors))
    relabelled = [(name, species, "i0" if identity == "i1" else identity, encounter, subset)
                  for name, species, identity, encounter, subset in rows]  # fmt: skip
    after = evaluate(split_of(relabelled), embeddings_of(vectors))
    assert_agrees(after, relabelled, vectors)
    assert after.species != before.species
    # Annotations that the split does not hold, or holds outside of test, change nothing.
    more = {**vectors, "stranger": vectors["l00"]}
    assert evaluate(split_of(rows), embeddings_of(more)) == before
    others = {name: vector for name, vector in vectors.items() if {r[0]: r[4] for r in rows}[name] == "test"}
    assert evaluate(split_of(rows), embeddings_of(others)) == before


def test_neither_the_order_of_the_split_nor_of_the_vectors_matters() -> None:
    rows, vectors = drawn(4)
    one = evaluate(split_of(rows), embeddings_of(vectors))
    table = embeddings_of(vectors)
    turned = EmbeddingSet("net", table.annotation_ids[::-1], table.chip_keys[::-1], table.vectors[::-1])
    assert evaluate(split_of(rows[::-1]), turned) == one


def test_a_filter_of_species_keeps_the_figures_of_those_named() -> None:
    rows, vectors = drawn(5)
    both = evaluate(split_of(rows), embeddings_of(vectors))
    for name, expected in zip(("lion", "zebra"), both.species, strict=True):
        [alone] = evaluate(split_of(rows), embeddings_of(vectors), species=[name]).species
        assert alone == expected
    twice = evaluate(split_of(rows), embeddings_of(vectors), species=["zebra", "zebra"])
    assert [one.species for one in twice.species] == ["zebra"]
    with pytest.raises(
        UnknownName, match=r"no species in the test side of the split named 'zebr': did you mean 'zebra'"
    ):
        evaluate(split_of(rows), embeddings_of(vectors), species=["lion", "zebr"])


def test_annotations_without_a_vector_are_counted_and_told() -> None:
    rows, vectors = drawn(6)
    in_test = [row[0] for row in rows if row[4] == "test" and row[1] == "zebra"]
    for name in in_test[:4]:
        del vectors[name]
    result = evaluate(split_of(rows), embeddings_of(vectors), warnings=["the catalogue has moved on"])
    assert [one.without_vector for one in result.species] == [0, 4]
    assert result.warnings[0] == "the catalogue has moved on"
    assert result.warnings[1].startswith("4 test annotations have no vector")
    assert_agrees(result, rows, vectors)
    for name in in_test[4:]:
        del vectors[name]
    lion, zebra = evaluate(split_of(rows), embeddings_of(vectors)).species
    assert (zebra.figures.queries, zebra.figures.top1, zebra.without_vector) == (0, None, len(in_test))
    assert lion.figures.queries > 0
    with pytest.raises(InputError, match="split 'first' has no test annotation with a vector"):
        evaluate(split_of(rows), embeddings_of({"l99": (1, 0)}))


def test_a_model_whose_vectors_are_all_alike_scores_nothing() -> None:
    rows, vectors = drawn(7)
    result = evaluate(split_of(rows), embeddings_of(dict.fromkeys(vectors, (1.0, 2.0))))
    assert [one.figures.top1 for one in result.species] == [0.0, 0.0]


def test_the_figures_can_be_recomputed_from_the_file_of_candidates(tmp_path: Path) -> None:
    rows, vectors = drawn(8, per_species=60)
    file = tmp_path / "deep" / "per-query.csv"
    result = evaluate(split_of(rows), embeddings_of(vectors), per_query=file)
    with file.open(encoding="utf-8", newline="") as lines:
        table = list(csv.DictReader(lines))
    of = {row[0]: row for row in rows}
    for one in result.species:
        mine = [line for line in table if line["species"] == one.species]
        assert {line["query"] for line in mine} == {r[0] for r in rows if r[1] == one.species and r[4] == "test"}
        possible = {line["query"]: int(line["possible_matches"]) for line in mine}
        assert sum(count == 0 for count in possible.values()) == one.figures.excluded
        scored = [query for query, count in possible.items() if count]
        for k in (1, 5, 20):
            hits = {line["query"] for line in mine if int(line["rank"]) <= k and line["match"] == "1"}
            assert getattr(one.figures, f"top{k}") == percent([query in hits for query in scored])
        for line in mine:
            query, candidate = of[line["query"]], of[line["candidate"]]
            assert query[3] != candidate[3]
            assert (line["query_identity"], line["candidate_identity"]) == (query[2], candidate[2])
            assert (line["match"] == "1") == (query[2] == candidate[2])
            units = [np.asarray(vectors[r[0]], np.float16).astype(float) for r in (query, candidate)]
            cosine = units[0] @ units[1] / np.linalg.norm(units[0]) / np.linalg.norm(units[1])
            assert float(line["score"]) == pytest.approx(cosine, abs=2e-6)
        for query in possible:
            ranks = [int(line["rank"]) for line in mine if line["query"] == query]
            assert ranks == list(range(1, len(ranks) + 1))
            assert len(ranks) <= 20


def test_a_file_that_cannot_be_written_is_one_line(tmp_path: Path) -> None:
    rows, vectors = drawn(8)
    (tmp_path / "taken").mkdir()
    with pytest.raises(InputError, match=r"taken cannot be written .*; name another file"):
        evaluate(split_of(rows), embeddings_of(vectors), per_query=tmp_path / "taken")


def test_the_document_holds_the_keys_of_the_contract() -> None:
    rows, vectors = drawn(9)
    document = json.loads(json.dumps(evaluate(split_of(rows), embeddings_of(vectors)).as_json(), allow_nan=False))
    assert {"model", "split", "species", "macro", "warnings"} <= document.keys()
    assert (document["model"], document["split"]) == ("net", "first")
    for one in document["species"]:
        assert {
            "species", "queries", "individuals", "excluded", "top1", "top5", "top10", "top20", "map", "top1_ci95",
            "top1_seen", "top1_unseen", "without_vector", "top1_excluded_as_misses",
        } <= one.keys()  # fmt: skip
        assert len(one["top1_ci95"]) == 2
        assert 0 <= one["top1_ci95"][0] <= one["top1"] <= one["top1_ci95"][1] <= 100
        assert one["top1"] == round(one["top1"], 2)
    assert document["macro"]["top1"] == pytest.approx(np.mean([one["top1"] for one in document["species"]]), abs=0.02)


def worsened(vectors: dict[str, Any], seed: int, by: float = 1.0) -> dict[str, Any]:
    rng = np.random.default_rng(seed)
    return {name: np.asarray(vector) + by * rng.normal(size=len(vector)) for name, vector in vectors.items()}


def assert_compares(result: Evaluation, rows: Rows, new: dict[str, Any], old: dict[str, Any]) -> None:
    """The comparison is that of two loops over the queries of which both models have vectors."""
    assert result.against is not None
    both = new.keys() & old.keys()
    for one in result.against.species:
        theirs = naive(rows, {name: old[name] for name in both}, one.species)
        ours = naive(rows, {name: new[name] for name in both}, one.species)
        before, after = np.array(theirs["hits"][1]), np.array(ours["hits"][1])
        assert one.queries == len(after)
        assert (one.top1_old, one.top1_new) == (percent(theirs["hits"][1]), percent(ours["hits"][1]))
        assert (one.map_old, one.map_new) == (percent(theirs["ap"]), percent(ours["ap"]))
        assert (one.only_old, one.only_new) == ((before & ~after).sum(), (after & ~before).sum())
        assert one.difference == pytest.approx(100 * (after.mean() - before.mean()))
        assert one.without_both_vectors == theirs["missing"]


@settings(max_examples=10, deadline=None)
@given(seed=st.integers(0, 10_000))
def test_a_comparison_is_that_of_two_loops_and_leaves_the_models_own_figures_alone(seed: int) -> None:
    rows, old = drawn(seed, 40)
    new = worsened(old, seed + 1)
    alone = evaluate(split_of(rows), embeddings_of(new))
    result = evaluate(split_of(rows), embeddings_of(new), against=embeddings_of(old, "v1"))
    assert_compares(result, rows, new, old)
    assert result.against is not None
    assert result.against.model == "v1"
    assert (result.species, result.macro, result.warnings) == (alone.species, alone.macro, ())
    for one, own in zip(result.against.species, result.species, strict=True):
        assert (one.queries, one.individuals, one.top1_new) == (
            own.figures.queries, own.figures.individuals, pytest.approx(own.figures.top1),
        )  # fmt: skip
        assert one.map_new == pytest.approx(own.figures.map)
    assert {key: value for key, value in result.as_json().items() if key != "against"} == alone.as_json()


def test_only_what_both_models_have_vectors_of_is_compared() -> None:
    rows, old = drawn(11, 40)
    new = worsened(old, 12)
    in_test = [row[0] for row in rows if row[4] == "test" and row[1] == "zebra"]
    for name in in_test[:3]:
        del old[name]
    for name in in_test[2:4]:
        del new[name]
    alone = evaluate(split_of(rows), embeddings_of(new))
    result = evaluate(split_of(rows), embeddings_of(new), against=embeddings_of(old))
    assert_compares(result, rows, new, old)
    assert result.species == alone.species
    assert result.against is not None
    assert [one.without_both_vectors for one in result.against.species] == [0, 4]
    assert result.warnings == (*alone.warnings, "4 test annotations are left out of the comparison, since a model has "
                               "no vector of them")  # fmt: skip


def test_queries_that_a_model_was_trained_on_are_not_compared() -> None:
    rows, old = drawn(13, 40)
    new = worsened(old, 14)
    in_test = [row[0] for row in rows if row[4] == "test" and row[1] == "lion"]
    alone = evaluate(split_of(rows), embeddings_of(new), against=embeddings_of(old))
    result = evaluate(
        split_of(rows),
        embeddings_of(new),
        trained_on=TrainedOn(test_annotations=frozenset(in_test[:3])),
        against=embeddings_of(old),
        against_trained_on=TrainedOn(None, frozenset(in_test[2:6]), ("v1 met some of them",)),
    )
    assert result.against is not None
    assert alone.against is not None
    lion, zebra = result.against.species
    assert lion.trained_on == 6
    assert lion.queries == alone.against.species[0].queries - 6
    assert zebra == replace(alone.against.species[1], p_holm=zebra.p_holm)
    assert result.species == alone.species
    assert (result.comparable, result.against.comparable) == (True, False)
    assert result.warnings == (
        "v1 met some of them", "6 queries are left out of the comparison, since a model was trained on their encounter",
    )  # fmt: skip
    with pytest.raises(InputError, match="no query is left on which model 'net' can be compared"):
        evaluate(
            split_of(rows),
            embeddings_of(new),
            species=["lion"],
            against=embeddings_of(old),
            against_trained_on=TrainedOn(test_annotations=frozenset(in_test)),
        )


def run_of(rows: Rows, *subsets: str, species: str | None = None, **more: Any) -> dict[str, Any]:
    """The config of a run that was trained on these sides of a split."""
    classes = {(row[1], row[2]) for row in rows if row[4] in subsets and species in (None, row[1])}
    listed = [{"species": one, "identity": name, "annotations": 3} for one, name in sorted(classes)]
    return {"run": "r1", "classes": listed, **more}


def test_a_run_on_the_split_itself_is_comparable_unless_it_used_what_was_set_aside() -> None:
    rows, vectors = drawn(15)
    split = split_of(rows)
    assert what_was_trained_on(split, [], {}) == TrainedOn()
    plain = run_of(rows, "train", split="first", split_seed=0, set_aside_used=False)
    assert what_was_trained_on(split, [plain], {}) == TrainedOn()
    found = what_was_trained_on(split, [run_of(rows, "train", "set_aside", split="first", set_aside_used=True)], {})
    assert found.identities == {(row[1], row[2]) for row in rows if row[4] != "test"}
    assert found.test_annotations == frozenset()
    assert found.remarks == ("r1 was trained on set-aside identities, which the paper's protocol leaves out",)
    # What was trained on decides what was seen, and the reader is told.
    result = evaluate(split, embeddings_of(vectors), trained_on=found)
    relabelled = [(*row[:4], "train" if row[4] == "set_aside" else row[4]) for row in rows]
    assert_agrees(result, relabelled, vectors)
    assert result.species != evaluate(split, embeddings_of(vectors)).species
    assert (result.comparable, result.warnings) == (False, found.remarks)
    assert result.as_json()["comparable"] is False
    assert evaluate(split, embeddings_of(vectors)).as_json()["comparable"] is True


def test_what_a_run_on_another_split_met_of_the_test_side_is_found() -> None:
    rows: Rows = [
        ("a1", "lion", "A", "A-mon", "test"),
        ("a2", "lion", "A", "A-tue", "test"),
        ("b1", "lion", "B", "B-mon", "test"),
        ("b2", "lion", "B", "B-tue", "test"),
        ("c1", "lion", "C", "C-mon", "train"),
        ("z1", "zebra", "Z", "Z-mon", "test"),
    ]
    others: Rows = [
        ("a1", "lion", "A", "A-mon", "train"),
        ("b9", "lion", "B", "B-tue", "train"),  # of the encounter of b2
        ("b1", "lion", "B", "B-mon", "test"),
        ("a2", "lion", "A", "A-tue", "set_aside"),
        ("z1", "zebra", "Z", "Z-mon", "train"),
    ]
    split, there = split_of(rows, "second"), {"first": split_of(others)}
    lions = run_of(others, "train", species="lion", split="first", split_seed=0)
    found = what_was_trained_on(split, [lions], there)
    assert found.test_annotations == {"a1", "b2"}
    assert found.identities == {("lion", "A"), ("lion", "B")}
    [remark] = found.remarks
    assert "r1 was trained on split 'first', not on 'second', and met 2 of its 5 test annotations" in remark
    everything = run_of(others, "train", "set_aside", split="first", set_aside_used=True)
    assert what_was_trained_on(split, [everything], there).test_annotations == {"a1", "a2", "b2", "z1"}
    # The sides of a run that the model started from count as its own.
    tuned = run_of(rows, "train", split="second", split_seed=0)
    both = what_was_trained_on(split, [tuned, lions], there)
    assert both.test_annotations == {"a1", "b2"}
    assert both.identities == {("lion", "A"), ("lion", "B"), ("lion", "C")}
    apart = what_was_trained_on(split, [run_of(others, "test", split="first")], {"first": split_of(others[2:3])})
    assert apart.test_annotations == frozenset()
    assert "met no encounter of its test side" in apart.remarks[0]


def test_where_the_other_split_is_not_there_the_reader_is_warned() -> None:
    rows, _ = drawn(16)
    split = split_of(rows)
    gone = what_was_trained_on(split, [run_of(rows, "train", split="old", split_seed=0)], {})
    assert "trained on split 'old', which this catalogue does not hold" in gone.remarks[0]
    assert "of split 'first' may have been trained on" in gone.remarks[0]
    for name, there in (("first", {}), ("old", {"old": split_of(rows, "old", seed=1)})):
        redrawn = what_was_trained_on(split, [run_of(rows, "train", split=name, split_seed=7)], there)
        assert f"split {name!r}, which this catalogue does not hold as it was" in redrawn.remarks[0]


def test_a_run_that_names_no_split_is_judged_by_its_classes() -> None:
    rows: Rows = [
        ("a1", "lion", "A", "A-mon", "test"),
        ("b1", "lion", "B", "B-mon", "test"),
        ("c1", "lion", "C", "C-mon", "test"),
        ("a9", "lion", "A", "A-tue", "train"),
    ]
    split = split_of(rows)
    assert what_was_trained_on(split, [run_of(rows, "train")], {}) == TrainedOn()
    assert what_was_trained_on(split, [{"run": "old"}], {}) == TrainedOn()
    found = what_was_trained_on(split, [run_of(rows[:2], "test")], {})
    assert found.remarks[0].startswith("r1 was trained on 1 of the 2 test identities that split 'first' keeps out")
    assert found.identities == {("lion", "A"), ("lion", "B")}


def make_run(runs: Path, name: str, weights: str, started_from: str | None = None, **more: Any) -> Path:
    model = runs / name / "model"
    model.mkdir(parents=True)
    config = EmbedderConfig(backbone="test_resnet", dim=96, image_size=64, mean=(0.5,) * 3, std=(0.5,) * 3)
    (model / "config.json").write_text(config_text(config, weights), encoding="utf-8")
    values = {"run": name, "initial_weights_hash": started_from, **more}
    (runs / name / "config.json").write_text(json.dumps(values), encoding="utf-8")
    return model


def test_the_history_of_a_model_goes_through_the_runs_it_came_from(tmp_path: Path) -> None:
    runs = tmp_path / "runs"

    def history(folder: Path | None) -> list[str]:
        return [config["run"] for config in run_history(folder, runs)]

    assert history(None) == []
    assert history(tmp_path / "nowhere") == []
    make_run(runs, "first", "aaaa")
    second = make_run(runs, "second", "bbbb", started_from="aaaa", teachers=["first", "other", "gone"])
    make_run(runs, "other", "cccc", started_from="unknown")
    third = make_run(runs, "third", "dddd", started_from="bbbb")
    assert history(third) == ["third", "second", "first", "other"]
    assert history(second) == ["second", "first", "other"]
    # A copy elsewhere is known by its weights; another model is not.
    copied = make_run(tmp_path / "shelf", "copy", "bbbb").rename(tmp_path / "shelf" / "released")
    assert history(copied) == ["second", "first", "other"]
    assert history(make_run(tmp_path / "shelf", "alien", "eeee").rename(tmp_path / "shelf" / "strange")) == []
    # A teacher may be named by its folder, in the project or elsewhere.
    by_folder = make_run(runs, "pupil", "gggg", teachers=[str(runs / "third" / "model"), str(copied), "hub:o/n"])
    assert history(by_folder) == ["pupil", "third", "second", "first", "other"]
    # Two runs that name each other, and files that are broken.
    make_run(runs, "round", "ffff", started_from="ffff", teachers=["round"])
    assert history(runs / "round" / "model") == ["round"]
    (runs / "first" / "config.json").write_text("[]", encoding="utf-8")
    (runs / "other" / "config.json").write_text("{", encoding="utf-8")
    assert history(third) == ["third", "second"]
