from __future__ import annotations

import csv
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest

from resight.catalogue.sinks.csv_table import COLUMNS, write_csv
from resight.catalogue.store import StoredSplit
from resight.errors import NotBuiltYet, UnknownName
from resight.project import Project
from resight.types import Annotation, Box

from .projects import HEIGHT, WIDTH, annotations, do_import, draw_photo, herd, row

ANNOTATION = Annotation(
    annotation_id="k1", source="herd", file_name="a/1.png", image_id=1, image_root="herd", image_path="a/1.png",
    content_hash="h", image_width=60, image_height=40, image_status="ok", species="zebra+face", part="face",
    individual='Ayo, "the great"', viewpoint="left", encounter="herd:e1", encounter_known=True,
    identity='Ayo, "the great"|left', allowed=True, box=Box(1, 2.5, 30, 20), theta_rad=0.1, taken_at="2024-05-01",
)  # fmt: skip
UNKNOWN = replace(ANNOTATION, annotation_id="k2", individual=None, viewpoint=None, identity=None, box=None)


def read_back(file: Path) -> list[dict[str, str]]:
    with file.open(encoding="utf-8", newline="") as stream:
        return list(csv.DictReader(stream))


@pytest.fixture
def project(tmp_path: Path) -> Project:
    return Project.init(tmp_path / "project")


def test_one_row_an_annotation_with_the_columns_of_the_contract(tmp_path: Path) -> None:
    assert write_csv([ANNOTATION, UNKNOWN], tmp_path / "out.csv") == 2
    assert tuple(read_back(tmp_path / "out.csv")[0]) == COLUMNS == (
        "annotation_id", "source", "file_name", "species", "individual", "viewpoint", "encounter", "identity",
        "box_x", "box_y", "box_w", "box_h", "theta",
    )  # fmt: skip
    first, second = read_back(tmp_path / "out.csv")
    assert list(first.values()) == [
        "k1", "herd", "a/1.png", "zebra+face", 'Ayo, "the great"', "left", "herd:e1", 'Ayo, "the great"|left',
        "1", "2.5", "30", "20", "0.1",
    ]  # fmt: skip
    assert [second[name] for name in ("individual", "viewpoint", "identity")] == ["", "", ""]
    assert [second[name] for name in ("box_x", "box_y", "box_w", "box_h")] == ["0", "0", "60", "40"]


def test_a_whole_image_of_unknown_size_has_no_box(tmp_path: Path) -> None:
    write_csv([replace(UNKNOWN, image_width=None, image_height=None)], tmp_path / "out.csv")
    (found,) = read_back(tmp_path / "out.csv")
    assert [found[name] for name in ("box_x", "box_y", "box_w", "box_h")] == ["", "", "", ""]


def test_a_split_adds_the_subset_and_what_it_was_frozen_with(tmp_path: Path) -> None:
    ids = ["k1", "k2", "k3", "k4"]
    split = StoredSplit(
        "s", "paper", 0, 1, "", subset={"k1": "train", "k2": "test", "k3": "set_aside"},
        identity={"k1": "frozen"}, encounter={"k1": "then"}, species={}, report={},
    )  # fmt: skip
    write_csv([replace(ANNOTATION, annotation_id=key) for key in ids], tmp_path / "out.csv", split)
    found = read_back(tmp_path / "out.csv")
    assert tuple(found[0]) == (*COLUMNS, "subset")
    assert [entry["subset"] for entry in found] == ["train", "test", "", ""]
    assert [(entry["identity"], entry["encounter"]) for entry in found[:2]] == [
        ("frozen", "then"), (ANNOTATION.identity, ANNOTATION.encounter),
    ]  # fmt: skip


def test_an_export_is_imported_again_with_the_same_counts(project: Project, tmp_path: Path) -> None:
    rows = [
        row(0, individual="Ayo"),
        row(1, individual="Ayo", viewpoint="right", date="2024-05-01"),
        row(2, individual="", viewpoint="", date=""),
        row(3, individual="Béa, Q.", species="lion+head", theta=0.5, x=2.125),
        row(4, path="0.png", individual="Ayo", date="2024-05-01", x=20),
    ]
    herd(tmp_path / "herd", [{"theta": 0} | entry for entry in rows])
    do_import(project, tmp_path / "herd" / "herd.csv")
    draw_photo(tmp_path / "cows" / "Cid" / "c.png")
    do_import(project, tmp_path / "cows", species="cow")
    done = project.export("csv", tmp_path / "out.csv")
    assert (done.format, done.path, done.rows) == ("csv", str(tmp_path / "out.csv"), 6)

    for name in (*(f"{n}.png" for n in range(4)), "Cid/c.png"):
        draw_photo(tmp_path / "again" / name)
    again = Project.init(tmp_path / "second")
    report = do_import(again, tmp_path / "out.csv", images=tmp_path / "again")
    assert (report.added, report.problems) == (6, ())
    first, second = project.stats(), again.stats()
    assert replace(second.totals, sources=2) == first.totals
    for was, now in zip(first.species, second.species, strict=True):
        for name in ("species", "annotations", "individuals", "identities", "encounters", "viewpoints", "policy"):
            assert getattr(now, name) == getattr(was, name)

    def what(a: Annotation) -> tuple[Any, ...]:
        return (
            a.file_name,
            a.species,
            a.individual,
            a.viewpoint,
            a.identity,
            a.box or Box(0, 0, WIDTH, HEIGHT),
            a.theta_rad,
        )

    assert [what(a) for a in annotations(again)] == [what(a) for a in annotations(project)]


def test_exporting_twice_gives_the_same_file(project: Project, tmp_path: Path) -> None:
    do_import(project, herd(tmp_path / "herd", [row(n) for n in range(5)]))
    project.export("csv", tmp_path / "a.csv")
    do_import(project, tmp_path / "herd" / "herd.csv")
    project.export("csv", tmp_path / "b.csv")
    assert (tmp_path / "a.csv").read_bytes() == (tmp_path / "b.csv").read_bytes()


@dataclass(frozen=True)
class Wrong:
    format: str
    split: str | None
    error: type[Exception]
    words: str


@pytest.mark.parametrize(
    "wrong",
    [
        Wrong("coco", None, NotBuiltYet, "export coco is not built yet"),
        Wrong("cvs", None, UnknownName, "did you mean 'csv'"),
        Wrong("csv", "none", UnknownName, "no split named 'none'"),
    ],
)
def test_an_export_that_cannot_be_made_writes_nothing(project: Project, tmp_path: Path, wrong: Wrong) -> None:
    with pytest.raises(wrong.error, match=wrong.words):
        project.export(wrong.format, tmp_path / "out.csv", split=wrong.split)
    assert not (tmp_path / "out.csv").exists()
