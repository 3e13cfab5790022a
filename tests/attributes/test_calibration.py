from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from resight.attributes.calibration import (
    LEAST_CONFIDENCE,
    calibration_error,
    choose_threshold,
    fit_temperature,
    log_loss,
    probabilities,
)


def drawn_logits(rows: int, scale: float, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Classes drawn as their logits say, and those logits told ``scale`` times as large."""
    rng = np.random.default_rng(seed)
    logits = rng.normal(0, 2, (rows, 3))
    chances = probabilities(logits)
    truth = np.array([rng.choice(3, p=row) for row in chances])
    return logits * scale, truth


# Softmax and loss


def test_probabilities_by_hand() -> None:
    found = probabilities(np.array([[0.0, math.log(3)], [5.0, 5.0]]))
    assert found == pytest.approx(np.array([[0.25, 0.75], [0.5, 0.5]]))
    warmer = probabilities(np.array([[0.0, 2 * math.log(3)]]), temperature=2.0)
    assert warmer == pytest.approx(np.array([[0.25, 0.75]]))
    assert probabilities(np.array([[1e4, 0.0]])) == pytest.approx(np.array([[1.0, 0.0]]))


def test_the_loss_by_hand() -> None:
    # One row, two classes of one half each: whatever the softening, minus the logarithm of one half.
    assert log_loss(np.zeros((1, 2)), np.array([0])) == pytest.approx(math.log(2))
    # Three rows soften by 1 / 5: four fifths of the true class, one fifth of the other.
    logits = np.tile([0.0, math.log(3)], (3, 1))
    expected = -(0.8 * math.log(0.75) + 0.2 * math.log(0.25))
    assert log_loss(logits, np.array([1, 1, 1])) == pytest.approx(expected)


# Temperature


@pytest.mark.parametrize("scale", [0.25, 1.0, 4.0])
def test_the_temperature_undoes_what_made_the_logits_too_sure(scale: float) -> None:
    logits, truth = drawn_logits(20_000, scale)
    assert fit_temperature(logits, truth) == pytest.approx(scale, rel=0.05)


def test_the_temperature_is_the_best_of_a_naive_search() -> None:
    logits, truth = drawn_logits(300, 2.5, seed=1)
    tried = np.geomspace(0.02, 50, 4001)
    best = tried[int(np.argmin([log_loss(logits, truth, t) for t in tried]))]
    assert fit_temperature(logits, truth) == pytest.approx(best, rel=0.005)


def test_rows_that_are_all_right_promise_no_more_than_so_few_can() -> None:
    logits = np.tile([4.0, -4.0], (48, 1))
    truth = np.zeros(48, int)
    sure = probabilities(logits, fit_temperature(logits, truth))[:, 0]
    assert sure == pytest.approx(49 / 50, abs=1e-4)


# Calibration error


def test_the_calibration_error_by_hand() -> None:
    confidence = np.repeat([0.6, 0.9], 50)
    right = np.concatenate([np.arange(50) < 30, np.arange(50) < 40])  # 60 % and 80 % right
    # Bins of ten rows: within a confidence they differ, so they are shuffled to be alike.
    order = np.concatenate([np.arange(50).reshape(10, 5).T.ravel(), 50 + np.arange(50).reshape(10, 5).T.ravel()])
    assert calibration_error(confidence, right[order]) == pytest.approx(0.05)
    assert calibration_error(np.zeros(0), np.zeros(0, bool)) == 0.0


def test_a_temperature_mends_the_calibration() -> None:
    logits, truth = drawn_logits(4000, 4.0)
    right = logits.argmax(axis=1) == truth
    before = calibration_error(probabilities(logits).max(axis=1), right)
    after = calibration_error(probabilities(logits, fit_temperature(logits, truth)).max(axis=1), right)
    assert before > 0.1
    assert after < 0.03


# Threshold


def test_48_of_48_are_enough_for_98_in_100_and_47_are_not() -> None:
    for rows, expected in ((48, 0.9), (47, None)):
        assert choose_threshold(np.full(rows, 0.9), np.ones(rows, bool), 0.98) == expected


def test_the_threshold_lies_where_the_wrong_ones_begin() -> None:
    confidence = np.linspace(1.0, 0.5, 101)
    right = confidence > 0.8475
    # 31 are right; of 32 with one wrong, 32 / 34 would be expected, and of 33 with two, 32 / 35.
    assert choose_threshold(confidence, right, 0.96) == pytest.approx(0.85)
    assert choose_threshold(confidence, right, 32 / 34) == pytest.approx(0.845)


def test_a_value_that_is_hardly_likely_is_not_proposed_however_often_its_like_are_right() -> None:
    confidence = np.array([0.9] * 60 + [0.7] * 60)
    assert choose_threshold(confidence, np.ones(120, bool), 0.9) == 0.9
    assert choose_threshold(np.full(60, 0.7), np.ones(60, bool), 0.9) is None
    assert choose_threshold(np.zeros(0), np.zeros(0, bool), 0.9) is None


def test_rows_of_one_confidence_are_taken_or_left_together() -> None:
    # In whichever order they come, the 10 at 0.85 are half wrong.
    confidence = np.array([0.95] * 50 + [0.85] * 10)
    right = np.array([True] * 55 + [False] * 5)
    assert choose_threshold(confidence, right, 0.95) == 0.95
    assert choose_threshold(confidence[::-1], right[::-1], 0.95) == 0.95


@given(
    st.lists(st.tuples(st.sampled_from([0.3, 0.5, 0.6, 0.7, 0.8, 0.9, 1.0]), st.booleans()), min_size=1, max_size=80),
    st.sampled_from([0.5, 0.7, 0.9, 0.95]),
)
def test_the_threshold_agrees_with_a_naive_search(rows: list[tuple[float, bool]], wanted: float) -> None:
    def expected_share(threshold: float) -> float:
        mine = [right for confidence, right in rows if confidence >= threshold]
        return (sum(mine) + 1) / (len(mine) + 2)

    confidences = sorted({confidence for confidence, _ in rows if confidence >= LEAST_CONFIDENCE})
    best = next((one for one in confidences if expected_share(one) >= wanted), None)
    confidence, right = (np.array(column) for column in zip(*rows, strict=True))
    assert choose_threshold(confidence, right, wanted) == best
