from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from resight.artefacts import Passport
from resight.attributes.fitting import FitOptions, Metrics, fit_head
from resight.attributes.head import HEAD_FILE, WEIGHTS_FILE, Head, outside, standardised
from resight.attributes.labels import Labelled
from resight.attributes.report import write_report
from resight.errors import ArtefactMismatch, InputError

from .drawn import features_of, labelled

LABELS = ["left", "right", "up"] * 40
GROUPS = [f"g{n // 6}" for n in range(120)]
FEATURES = {"weights_hash": "aaaa", "dim": 24}
QUICK = FitOptions(strengths=(0.5, 5.0))


@pytest.fixture(scope="module")
def fitted() -> tuple[Labelled, np.ndarray, Head, Metrics]:
    chosen, rows = labelled(LABELS, GROUPS), features_of(LABELS, distance=4.0)
    return chosen, rows, *fit_head(chosen, rows, FEATURES, QUICK)


# Cross-validation


def test_what_tells_individuals_apart_does_not_count() -> None:
    """Each individual has one label and features of its own, which say nothing of any other's."""
    rng = np.random.default_rng(0)
    of_group = rng.normal(0, 5, (30, 60))
    groups = np.repeat(np.arange(30), 8)
    labels = ["left" if group % 2 else "right" for group in groups]
    rows = (of_group[groups] + rng.normal(0, 0.1, (240, 60))).astype(np.float32)
    head, metrics = fit_head(labelled(labels, [f"g{g}" for g in groups]), rows, FEATURES, QUICK)
    assert metrics.accuracy < 0.75
    assert (head.threshold, metrics.coverage, metrics.accuracy_at_threshold) == (None, 0.0, None)
    # With rows of an individual on both sides, the same rows look easy.
    _, leaking = fit_head(labelled(labels, [f"g{n}" for n in range(240)]), rows, FEATURES, QUICK)
    assert leaking.accuracy > 0.95


def test_the_figures_are_those_of_the_confusion_table(fitted: tuple[Labelled, np.ndarray, Head, Metrics]) -> None:
    _, _, head, metrics = fitted
    table = np.array(metrics.confusion)
    assert head.classes == ("left", "right", "up")
    assert (metrics.annotations, metrics.judged, metrics.groups) == (120, 120, 20)
    assert table.sum(axis=1).tolist() == [40, 40, 40]
    assert metrics.accuracy == pytest.approx(np.trace(table) / 120)
    assert metrics.accuracy > 0.9
    for k, figures in enumerate(metrics.classes):
        assert (figures.value, figures.annotations) == (head.classes[k], 40)
        assert figures.recall == pytest.approx(table[k, k] / 40)
        assert figures.precision == pytest.approx(table[k, k] / table[:, k].sum())
    assert metrics.accuracy_at_90 >= metrics.accuracy


def test_the_threshold_is_where_as_many_are_right_as_asked() -> None:
    labels = ["left", "right"] * 300
    rows = features_of(labels, distance=1.5, seed=3)
    chosen = labelled(labels, [f"g{n // 4}" for n in range(600)])
    coverages = []
    for right in (0.9, 0.98):
        head, metrics = fit_head(chosen, rows, FEATURES, replace(QUICK, right=right))
        assert head.threshold is not None
        assert metrics.accuracy_at_threshold is not None
        assert metrics.accuracy < right <= metrics.accuracy_at_threshold + 0.01
        coverages.append(metrics.coverage)
        unseen = features_of(labels, distance=1.5, seed=4)
        chances = head.confidences(unseen)
        sure = chances.max(axis=1) >= head.threshold
        right_there = np.array(head.classes)[chances.argmax(axis=1)] == np.array(labels)
        assert right_there[sure].mean() > right - 0.03
        assert sure.mean() == pytest.approx(metrics.coverage, abs=0.12)
    assert 1.0 > coverages[0] > coverages[1] > 0.1


def test_the_temperature_mends_heads_that_are_too_sure_or_not_sure_enough() -> None:
    labels = ["left", "right"] * 300
    chosen = labelled(labels, [f"g{n // 4}" for n in range(600)])
    rows = features_of(labels, distance=1.5, dim=120)
    for strength in (0.02, 5e3):
        _, metrics = fit_head(chosen, rows, FEATURES, FitOptions(strengths=(strength,)))
        assert metrics.calibration_error < 0.6 * metrics.calibration_error_before
        assert metrics.calibration_error < 0.1


def test_two_classes_are_read_like_several() -> None:
    labels = ["left", "right"] * 40
    rows = features_of(labels)
    head, metrics = fit_head(labelled(labels, GROUPS[:80]), rows, FEATURES, QUICK)
    chances = head.confidences(rows)
    assert chances.shape == (80, 2)
    assert chances.sum(axis=1) == pytest.approx(1.0)
    assert np.array(head.classes)[chances.argmax(axis=1)].tolist() == labels
    assert metrics.accuracy == 1.0


def test_a_class_that_is_in_one_group_beside_another_is_judged_where_it_can_be() -> None:
    # Two groups hold all of class up; two folds put them apart or judge none of it.
    labels = ["left", "right"] * 20 + ["up"] * 10
    rows = features_of(labels, dim=4, distance=10.0)
    groups = ["g0"] * 20 + ["g1"] * 20 + ["g0"] * 5 + ["g1"] * 5
    head, metrics = fit_head(labelled(labels, groups), rows, FEATURES, FitOptions(strengths=(50.0,)))
    assert (metrics.judged, metrics.accuracy) == (50, 1.0)
    groups = ["g0"] * 20 + ["g1"] * 20 + ["g2"] * 10
    head, metrics = fit_head(labelled(labels, groups), rows, FEATURES, FitOptions(strengths=(50.0,)))
    assert (metrics.annotations, metrics.judged) == (50, 40)
    assert head.classes == ("left", "right", "up")
    assert np.isfinite(head.temperature)
    assert metrics.calibration_error < 0.1


def test_one_individual_alone_cannot_be_checked() -> None:
    labels = ["left", "right"] * 10
    with pytest.raises(InputError, match="all 20 labelled annotations are of one individual"):
        fit_head(labelled(labels, ["g"] * 20), features_of(labels), FEATURES, QUICK)
    with pytest.raises(InputError, match=r"right 1: expected a share from 0\.5 to below 1"):
        FitOptions(right=1.0)


def test_the_same_labels_give_the_same_head(fitted: tuple[Labelled, np.ndarray, Head, Metrics]) -> None:
    chosen, rows, head, metrics = fitted
    again, measured = fit_head(chosen, rows, FEATURES, QUICK)
    assert (again.name, measured) == (head.name, metrics)
    assert replace(head, threshold=0.99).name != head.name
    assert replace(head, bias=head.bias + 1).name != head.name


def test_a_feature_that_hardly_varied_does_not_decide_when_it_does() -> None:
    labels = ["left", "right"] * 40
    rows = features_of(labels)
    rows[:, 20] = 0.0
    rows[0, 20] = 1e-4
    head, _ = fit_head(labelled(labels, GROUPS[:80]), rows, FEATURES, QUICK)
    strange = rows.copy()
    strange[:, 20] = 1.0
    assert np.array_equal(head.confidences(strange).argmax(axis=1), head.confidences(rows).argmax(axis=1))


# The guard


def test_the_share_outside_by_hand() -> None:
    basis = np.array([[1.0, 0.0, 0.0], [0.0, 1.0, 0.0]], np.float32)
    features = np.array([[2, 0, 0], [0, 0, 5], [3, 0, 4], [0, 0, 0]], np.float32)
    assert outside(features, basis).tolist() == pytest.approx([0.0, 1.0, 0.8, 1.0])
    assert standardised(np.array([[3.0]]), np.array([1.0], np.float32), np.array([4.0], np.float32)).tolist() == [[0.5]]


def test_an_animal_unlike_those_fitted_on_is_noticed_and_others_are_not() -> None:
    rng = np.random.default_rng(0)
    labels = ["lion", "zebra"] * 100
    # What they are like varies in 6 directions of 200; a stranger's features lie in others.
    plane = np.linalg.qr(rng.normal(size=(200, 200)))[0]
    inside, stranger = plane[:6], plane[6:12]

    def of(directions: np.ndarray, seed: int) -> np.ndarray:
        drawn = np.random.default_rng(seed).normal(0, 3, (200, 6))
        drawn[:, 0] += np.where(np.arange(200) % 2, 8, -8)
        noise = np.random.default_rng(seed + 1).normal(0, 0.3, (200, 200))
        return np.asarray(drawn @ directions + noise, np.float32)

    chosen = labelled(labels, [f"g{n // 4}" for n in range(200)], field="species")
    head, metrics = fit_head(chosen, of(inside, 1), FEATURES, QUICK)
    assert metrics.accuracy > 0.95
    assert head.most_unlike is not None
    assert np.mean(head.unlikeness(of(inside, 5)) > head.most_unlike) < 0.06
    assert np.mean(head.unlikeness(of(stranger, 7)) > head.most_unlike) > 0.9
    # Sides are asked of known species only.
    assert fit_head(replace(chosen, field="viewpoint"), of(inside, 1), FEATURES, QUICK)[0].most_unlike is None


# Files


def test_a_head_is_read_as_it_was_written(tmp_path: Path, fitted: tuple[Labelled, np.ndarray, Head, Metrics]) -> None:
    _, rows, head, metrics = fitted
    head.save(tmp_path)
    read = Head.load(tmp_path, "viewpoint")
    assert (read.name, read.classes, read.species, read.threshold) == (
        head.name, head.classes, ("zebra",), head.threshold
    )  # fmt: skip
    assert (read.confidences(rows) == head.confidences(rows)).all()
    assert read.metrics == json.loads(json.dumps(metrics.to_json()))
    text = json.loads((tmp_path / HEAD_FILE).read_text(encoding="utf-8"))
    assert text["decides"]["classes"] == ["left", "right", "up"]
    assert text["recorded"]["metrics"]["accuracy"] == metrics.accuracy


def test_files_that_do_not_belong_together_are_refused(
    tmp_path: Path, fitted: tuple[Labelled, np.ndarray, Head, Metrics]
) -> None:
    *_, head, _ = fitted
    with pytest.raises(InputError, match=r"holds no head for viewpoint yet.*resight attributes train viewpoint"):
        Head.load(tmp_path, "viewpoint")
    head.save(tmp_path)
    with pytest.raises(ArtefactMismatch, match=r"a head for 'viewpoint'.*expected 'species'"):
        Head.load(tmp_path, "species")
    kept = (tmp_path / WEIGHTS_FILE).read_bytes()
    replace(head, bias=head.bias + 1).save(tmp_path)
    (tmp_path / WEIGHTS_FILE).write_bytes(kept)
    with pytest.raises(ArtefactMismatch, match=r"does not hold the numbers that head\.json was written with"):
        Head.load(tmp_path, "viewpoint")
    (tmp_path / WEIGHTS_FILE).write_bytes(kept[:50])
    with pytest.raises(ArtefactMismatch, match="holds no head that can be read"):
        Head.load(tmp_path, "viewpoint")


def test_features_of_another_network_are_refused(fitted: tuple[Labelled, np.ndarray, Head, Metrics]) -> None:
    *_, head, _ = fitted
    head.require_features(Passport("embeddings", FEATURES, {"made_by": ["torch float32"]}))
    with pytest.raises(ArtefactMismatch, match=r"weights_hash is 'aaaa' there and 'bbbb' now.*train viewpoint"):
        head.require_features(Passport("embeddings", {**FEATURES, "weights_hash": "bbbb"}))


def test_the_report_has_what_was_measured_and_left_out(
    tmp_path: Path, fitted: tuple[Labelled, np.ndarray, Head, Metrics]
) -> None:
    chosen, _, head, metrics = fitted
    written = write_report(head, metrics, replace(chosen, left_out={"quarantined": 3}), tmp_path)
    values = json.loads(written.report.read_text(encoding="utf-8"))
    assert (values["head"], values["left_out"]) == (head.name, {"quarantined": 3})
    assert values["out_of_fold"]["accuracy"] == metrics.accuracy
    lines = written.confusion.read_text(encoding="utf-8").splitlines()
    assert lines[0].endswith(",left,right,up")
    assert lines[1] == "left," + ",".join(map(str, metrics.confusion[0]))
    assert len(lines) == 4
