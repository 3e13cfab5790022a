"""From a card of photos to proposals, as a user meets it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from resight.cli import run

from ..catalogue.projects import draw_photo
from .conftest import Command

BOX = [0.25, 0.25, 0.5, 0.5]


@pytest.fixture
def project(tmp_path: Path) -> Path:
    folder = tmp_path / "project"
    assert run(["init", str(folder)]) == 0
    return folder


@pytest.fixture
def card(tmp_path: Path) -> Path:
    for name in ("DCIM/100CANON/IMG_0001.JPG", "DCIM/100CANON/IMG_0002.JPG", "DCIM/101CANON/IMG_0001.JPG"):
        draw_photo(tmp_path / "card" / name, kind=name)
    (tmp_path / "card" / "DCIM" / "broken.jpg").write_bytes(b"no picture")
    return tmp_path / "card"


def detections(folder: Path, **found: list[tuple[str, float]]) -> str:
    """A MegaDetector file: photo → category and confidence of each detection, all of one box but moved apart."""
    images = [
        {
            "file": name.replace("__", "/") + ".JPG",
            "detections": [
                {"category": category, "conf": confidence, "bbox": [0.1 * number, *BOX[1:]]}
                for number, (category, confidence) in enumerate(mine)
            ],
        }
        for name, mine in found.items()
    ]
    categories = {"1": "animal", "2": "person", "3": "vehicle"}
    document = {"info": {"detector": "md"}, "detection_categories": categories, "images": images}
    (folder / "md.json").write_text(json.dumps(document))
    return f"json:{folder / 'md.json'}"


def steps(resight: Command) -> dict[str, Any]:
    return {step["name"]: step for step in resight("status", "--json")["steps"]}


def test_a_card_comes_in_once_and_what_cannot_be_read_is_told(resight: Command, card: Path) -> None:
    first = resight("import", str(card), "--species", "lion", "--json")
    assert {name: first[name] for name in ("format", "images", "annotations", "added", "quarantined")} == {
        "format": "photos", "images": 4, "annotations": 0, "added": 3, "quarantined": 1,
    }  # fmt: skip
    assert [problem["row"] for problem in first["problems"]] == ["DCIM/broken.jpg"]
    again = resight("import", str(card), "--json")
    assert (again["added"], again["unchanged"], again["quarantined"]) == (0, 3, 1)
    shown = resight("import", str(card), "--dry-run")
    assert "3 unchanged" in shown
    assert "dry run, nothing was changed" in shown


def test_animals_are_found_and_the_empty_photo_is_boxed_by_hand(resight: Command, card: Path, tmp_path: Path) -> None:
    resight("import", str(card), "--species", "lion")
    file = detections(
        tmp_path,
        DCIM__100CANON__IMG_0001=[("1", 0.9), ("1", 0.8), ("2", 0.9)],
        DCIM__100CANON__IMG_0002=[("1", 0.1)],
        DCIM__101CANON__IMG_0001=[("1", 0.7)],
        elsewhere__IMG_0009=[("1", 0.7)],
    )
    dry = resight("detect", "--detector", file, "--dry-run", "--json")
    assert (dry["added"], dry["dry_run"]) == (3, True)
    done = resight("detect", "--detector", file, "--json")
    counts = {name: done[name] for name in ("looked_at", "with_animals", "without_animals", "added", "persons")}
    assert counts == {"looked_at": 3, "with_animals": 2, "without_animals": 1, "added": 3, "persons": 1}
    assert list(done["unmatched"]) == ["elsewhere/IMG_0009.JPG"]
    again = resight("detect", "--detector", file, "--json")
    assert (again["added"], again["photos"], again["looked_at_before"]) == (0, 1, 3)  # the broken one
    assert "3 photos were looked at before and left as they are; --anew" in resight("detect", "--detector", file)
    assert resight("detect", "--detector", file, "--anew", "--json")["looked_at_before"] == 0
    (empty,) = resight("status", "--list", "detected", "--json")["fell_out"]
    assert empty["file_name"] == "DCIM/100CANON/IMG_0002.JPG"
    assert "0.1" in empty["reason"]
    (drawn,) = resight("detect", "--box", "100CANON/IMG_0002.JPG=5,5,20,20", "--json")["added"]
    assert steps(resight)["annotations"]["count"] == 4
    assert resight("detect", "--remove", drawn, "--json")["removed"] == [drawn]
    assert steps(resight)["annotations"]["count"] == 3


@pytest.mark.parametrize(
    ("words", "complaint"),
    [
        ([], "detect wants a --detector"),
        (["--detector", "yolo:x"], "yolo:x"),
        (["--detector", "json:nowhere.json"], "nowhere.json"),
        (["--detector", "whole-image", "--source", "other"], "no source named 'other'"),
        (["--box", "IMG_0001.JPG=1,2,3"], "expected four numbers"),
        (["--box", "1,2,3,4"], "expected PHOTO=X,Y,W,H"),
        (["--box", "IMG_0001.JPG=1,2,3,4"], "IMG_0001.JPG"),  # there are two
        (["--box", "IMG_0002.JPG=100,2,30,40"], "inside"),
        (["--box", "IMG_0002.JPG=1,2,30,20", "--box", "nowhere.JPG=1,2,3,4"], "no photo 'nowhere.JPG'"),
        (["--box", "IMG_0002.JPG=1,2,30,20", "--remove", "none"], "no annotation 'none'"),
        (["--box", "IMG_0002.JPG=1,2,30,40", "--detector", "whole-image"], "leave --detector out"),
    ],
)
def test_a_detection_that_cannot_be_gives_one_line(
    resight: Command, card: Path, words: list[str], complaint: str
) -> None:
    resight("import", str(card), "--species", "lion")
    assert complaint in resight("detect", *words, expect=2)
    assert steps(resight)["annotations"]["count"] == 0


def test_status_of_a_step_that_is_none(resight: Command) -> None:
    assert "no step" in resight("status", "--list", "detcted", expect=2)
    assert resight("status", "--cameras", "--json") == {"cameras": []}


def pointing(file: Path, side: str, seed: int) -> None:
    """A bright wedge that points to one side, on noise."""
    pixels = np.random.default_rng(seed).integers(0, 60, (96, 96, 3), dtype=np.uint8)
    for row in range(20, 76):
        length = 70 - abs(row - 48) * 2
        pixels[row, 10 : 10 + max(length, 2)] = 220
    picture = Image.fromarray(pixels)
    file.parent.mkdir(parents=True, exist_ok=True)
    (picture if side == "right" else picture.transpose(Image.Transpose.FLIP_LEFT_RIGHT)).save(file)


def test_a_side_is_learned_proposed_and_decided(resight: Command, tmp_path: Path) -> None:
    lines = ["path,individual,species,viewpoint"]
    for number in range(24):
        side = ("left", "right")[number % 2]
        pointing(tmp_path / "known" / f"{number}.png", side, number)
        lines.append(f"{number}.png,z{number // 4},zebra,{side}")
    (tmp_path / "known" / "labels.csv").write_text("\n".join(lines))
    for number in range(6):
        pointing(tmp_path / "card" / f"{number}.png", ("left", "right")[number % 2], 100 + number)
    resight("import", str(tmp_path / "known" / "labels.csv"))
    resight("import", str(tmp_path / "card"), "--format", "photos", "--species", "zebra")
    resight("detect", "--detector", "whole-image")
    assert "no head for viewpoint yet" in resight("attributes", "predict", "viewpoint", expect=2)
    trained = resight("attributes", "train", "viewpoint", "--right", "0.8", "--json")
    assert (trained["classes"], trained["metrics"]["accuracy"]) == (["left", "right"], 1.0)
    assert Path(trained["report"]).is_file()
    done = resight("attributes", "predict", "viewpoint", "--json")
    assert done["values"] == {"left": 3, "right": 3}
    found = {p["file_name"]: p for p in resight("attributes", "list", "viewpoint", "--json")["proposals"]}
    assert {name: p["value"] for name, p in found.items()} == {
        f"{number}.png": ("left", "right")[number % 2] for number in range(6)
    }
    drawn = resight("split", "s", "--no-check-duplicates", "--json")
    assert drawn["species"][0]["train_annotations"] + drawn["species"][0]["test_annotations"] <= 24
    answer = resight("match", str(tmp_path / "card" / "0.png"), "--species", "zebra", "--json")["queries"][0]
    assert answer["viewpoint"] == "left"
    assert {tuple(c["proposed"]) for c in answer["candidates"] if c["individual_id"] is None} == {("viewpoint",)}
    assert "viewpoint only proposed" in resight("match", str(tmp_path / "card" / "1.png"), "--species", "zebra")
    resight("export", "csv", str(tmp_path / "out.csv"))
    assert (tmp_path / "out.csv").read_text().splitlines()[0].endswith(",proposed")
    wrong, rest = found["0.png"]["annotation_id"], [p["annotation_id"] for n, p in found.items() if n != "0.png"]
    (tmp_path / "ids.txt").write_text("\n".join(rest[:3]))
    assert resight("attributes", "reject", "viewpoint", "--id", wrong, "--json")["annotations"] == 1
    assert (
        resight("attributes", "accept", "viewpoint", "--id", f"@{tmp_path / 'ids.txt'}", "--json")["annotations"] == 3
    )
    assert resight("attributes", "correct", "viewpoint", "front", "--id", wrong, "--json")["values"] == {"front": 1}
    assert resight("attributes", "accept", "viewpoint", "--json")["annotations"] == 2
    assert resight("attributes", "predict", "viewpoint", "--json")["proposed"] == 0
    assert (
        "proposed" not in (resight("export", "csv", str(tmp_path / "out.csv")), (tmp_path / "out.csv").read_text())[1]
    )
    funnel = steps(resight)
    assert (funnel["viewpoint"]["count"], funnel["viewpoint"]["proposed"]) == (30, 0)
    assert funnel["compared"]["count"] == 2


def test_quality_is_measured_and_a_rule_is_told_and_taken_back(resight: Command, card: Path, project: Path) -> None:
    resight("import", str(card), "--species", "lion")
    resight("detect", "--detector", "whole-image")
    resight("detect", "--box", "IMG_0002.JPG=2,2,10,10")
    assert "not measured" in resight("status")
    assert resight("attributes", "measure", "--json")["measured"] == 4
    assert resight("attributes", "measure", "--json")["measured"] == 0
    settings = project / "resight.toml"
    before = settings.read_text()
    settings.write_text(before.replace("[quality]\n", "[quality]\nmin_side_px = 20\n"))
    (caught,) = resight("status", "--list", "filtered", "--json")["fell_out"]
    assert (caught["file_name"], caught["reason"]) == ("DCIM/100CANON/IMG_0002.JPG", "min_side_px 20")
    assert resight("stats", "--json")["species"][0]["filtered"] == 1
    settings.write_text(before)
    assert resight("status", "--list", "filtered", "--json")["fell_out"] == []


@pytest.mark.parametrize(
    ("words", "complaint"),
    [
        (["train", "colour"], "no attribute named 'colour'"),
        (["train", "viewpoint"], "viewpoint"),
        (["accept", "viewpoint", "--id", "x"], "x"),
        (["accept", "viewpoint", "--id", "@nowhere.txt"], "nowhere.txt"),
        (["correct", "viewpoint", "left"], "correct wants the annotations"),
        (["correct", "viewpoint", "port", "--id", "x"], "port"),
    ],
)
def test_an_attribute_that_cannot_be_gives_one_line(
    resight: Command, card: Path, words: list[str], complaint: str
) -> None:
    resight("import", str(card), "--species", "lion")
    resight("detect", "--detector", "whole-image")
    assert complaint in resight("attributes", *words, expect=2)


def test_a_match_says_how_many_animals_have_no_species(resight: Command, card: Path, tmp_path: Path) -> None:
    resight("import", str(card))
    resight("detect", "--detector", "whole-image")
    pointing(tmp_path / "known" / "0.png", "left", 0)
    (tmp_path / "known" / "labels.csv").write_text("path,individual,species\n0.png,z,zebra\n")
    resight("import", str(tmp_path / "known" / "labels.csv"))
    answer = resight("match", str(tmp_path / "known" / "0.png"), "--species", "zebra", "--json")["queries"][0]
    assert "3 annotations of the catalogue have no species yet" in answer["note"]
