from __future__ import annotations

import dataclasses

import pytest
from hypothesis import given
from hypothesis import strategies as st

from resight.catalogue.quality import Measured, caught, rule_that_catches
from resight.settings import QualityRules

from ..made_up import annotation

ALL_RULES = QualityRules(60, 10, 20, 0.3, 0.5, 2, one_of_duplicates=True)
GOOD = Measured(10, 60, 20, 0.3, 0.5, 2, is_duplicate=False)  # each number is just at its limit


@pytest.mark.parametrize(
    ("changes", "rule"),
    [
        ({}, None),
        ({"side_px": 59.9}, "min_side_px 60"),
        ({"sharpness": 9.9}, "min_sharpness 10"),
        ({"contrast": 19.9}, "min_contrast 20"),
        ({"confidence": 0.49}, "min_confidence 0.5"),
        ({"quality": 1.5}, "min_quality 2"),
        ({"cut_share": 0.31}, "max_cut_share 0.3"),
        ({"is_duplicate": True}, "near_duplicates one"),
        ({"is_duplicate": True, "cut_share": 1.0, "contrast": 0.0}, "min_contrast 20"),
    ],
)
def test_each_rule_catches_what_is_past_its_limit(changes: dict[str, float], rule: str | None) -> None:
    measured = dataclasses.replace(GOOD, **changes)
    assert rule_that_catches(ALL_RULES, measured) == rule
    assert rule_that_catches(QualityRules(), measured) is None


def test_what_is_not_measured_is_not_caught() -> None:
    assert rule_that_catches(ALL_RULES, Measured()) is None


@given(st.lists(st.sampled_from([None, "min_side_px 60", "min_contrast 20"])))
def test_the_caught_are_counted_by_rule(rules: list[str | None]) -> None:
    counts = caught(dataclasses.replace(annotation(f"{place}"), filtered=rule) for place, rule in enumerate(rules))
    assert counts == {rule: rules.count(rule) for rule in rules if rule is not None}
    assert list(counts.values()) == sorted(counts.values(), reverse=True)
