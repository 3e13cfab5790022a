from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from resight.catalogue.sources.parsed import Findings
from resight.catalogue.sources.segmentations import parse_segmentation, read_segmentation
from resight.catalogue.sources.values import Bad
from resight.outlines import read_outline

RUNS = {"size": [2, 3], "counts": [1, 2, 3]}


@pytest.mark.parametrize(
    ("cell", "expected"),
    [
        ([[1, 2, 3, 4, 5, 6]], [[1, 2, 3, 4, 5, 6]]),
        ([1, 2, 3, 4, 5, 6], [1, 2, 3, 4, 5, 6]),
        (RUNS, RUNS),
        (json.dumps(RUNS), RUNS),
        (" [[1, 2, 3.5, 4, 5, 6]] ", [[1, 2, 3.5, 4, 5, 6]]),
        ("{'size': [1080, 1920], 'counts': 'ab`1'}", {"size": [1080, 1920], "counts": "ab`1"}),
        ("{'counts': b'ab\\\\1', 'size': [1080, 1920]}", {"size": [1080, 1920], "counts": "ab\\1"}),
        ([], None),
        ({}, None),
        (None, None),
        (float("nan"), None),
        ("", None),
        ("nan", None),
        ("[]", None),
    ],
)
def test_what_is_read(cell: Any, expected: Any) -> None:
    assert parse_segmentation(cell) == expected


@pytest.mark.parametrize(
    "cell",
    [
        5, True, "5", '"text"', "masks/1.png", "[1, 2", [1, [2]], ["a"], [True, False], [None], {"size": [1, 2]},
        "__import__('os').getcwd()", "[" * 100_000, "{'size': [1, 2], 'counts': 'a' + 'b'}",
        "{'size': [99999999999, 2], 'counts': 'a'}",
    ],
)  # fmt: skip
def test_what_is_no_outline_is_counted(cell: Any) -> None:
    assert isinstance(parse_segmentation(cell), Bad)
    findings = Findings()
    assert read_segmentation(cell, findings) is None
    assert findings.notes() == ["segmentation that is neither polygons nor an RLE left out (once)"]
    assert findings.problems == []


@given(st.text(st.characters(min_codepoint=48, max_codepoint=111)), st.booleans())
def test_a_compressed_rle_as_python_prints_it_comes_back(counts: str, as_bytes: bool) -> None:
    printed = str({"size": [20, 30], "counts": counts.encode() if as_bytes else counts})
    assert parse_segmentation(printed) == {"size": [20, 30], "counts": counts}


def test_what_is_read_can_be_drawn() -> None:
    for cell in ("[[0, 0, 3, 0, 3, 2]]", "[0, 0, 3, 0, 3, 2]", json.dumps(RUNS), "{'size': [2, 3], 'counts': b'123'}"):
        assert read_outline(parse_segmentation(cell), 3, 2).mask().getbbox() is not None
