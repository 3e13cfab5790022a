from __future__ import annotations

from pathlib import Path

import pytest

import resight
from resight.demo.tour import Scale, run_demo
from resight.errors import InputError

SMALL = Scale(individuals=6, encounters=3, settings={"epochs": "1", "image_size": "64"})


def test_the_demo_goes_from_drawing_to_a_sheet(tmp_path: Path) -> None:
    said: list[str] = []
    result = run_demo(tmp_path / "demo", say=said.append, scale=SMALL)
    assert tuple(said) == result.steps
    assert [line[0] for line in said if line[1:3] == "/8"] == [*list("12333455567"), "8"]
    assert Path(result.sheet).read_text(encoding="utf-8").startswith("<!doctype html>")
    assert {row.species for row in result.species} == {
        "demo_bandbuck",
        "demo_dapplecat",
        "demo_notchback+fin_dorsal",
    }
    policies = {row.species: row.policy for row in resight.open(result.project).stats().species}
    assert policies["demo_notchback+fin_dorsal"] == "ignore"
    assert policies["demo_bandbuck"] == "separate"


def test_a_folder_that_holds_something_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "mine.txt").write_text("keep me", encoding="utf-8")
    with pytest.raises(InputError, match="not empty"):
        run_demo(tmp_path, say=lambda line: None)
    assert [entry.name for entry in tmp_path.iterdir()] == ["mine.txt"]
