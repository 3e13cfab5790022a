from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import select

from resight.catalogue import deciding, detecting, schema
from resight.catalogue.detecting import Looked
from resight.catalogue.intake import ImportReport
from resight.project import Project
from resight.types import Box, Detection

from .projects import contents, do_import, draw_photo, herd, ledger, row, write_rows

ROWS = [row(n) for n in range(3)]
BOX = Box(1, 2, 30, 20)  # that of the rows


@pytest.fixture
def table(tmp_path: Path) -> Path:
    """A labelled table beside its photos."""
    return herd(tmp_path / "herd", ROWS)


@pytest.fixture
def project(tmp_path: Path, table: Path) -> Project:
    """The same photos as a card, in which nobody has looked."""
    made = Project.init(tmp_path / "project")
    do_import(made, table.parent, format="photos", source="card")
    return made


def detected(project: Project, boxes: Mapping[str, list[Box | None]]) -> None:
    with project.database.writing() as (connection, _):
        looked = [
            Looked(photo, tuple(Detection(box, 0.9) for box in boxes.get(photo.image_path, ())))
            for photo in detecting.photos(connection)
        ]
        detecting.write_looked(connection, project.settings, looked, detector="net")


def rows(project: Project) -> list[dict[str, Any]]:
    a, s, n = schema.annotation_table, schema.sources, schema.individuals
    query = select(a, s.c.name.label("source"), n.c.name.label("individual")).join(s, a.c.source_id == s.c.id)
    with project.database.reading() as connection:
        found = connection.execute(query.outerjoin(n, a.c.individual_id == n.c.id).order_by(a.c.file_name, a.c.box_x))
        return [dict(one._mapping) for one in found]


def test_a_named_animal_is_the_one_that_was_found_before(project: Project, table: Path) -> None:
    detected(project, {"0.png": [Box(1.5, 2, 30, 20)], "1.png": [Box(30, 20, 20, 10), BOX]})
    project.add_box("2.png", Box(1, 2, 30, 19.5))
    before = {(one["file_name"], one["box_x"]): one["key"] for one in rows(project)}
    report = do_import(project, table)
    assert isinstance(report, ImportReport)
    assert (report.added, report.updated, report.unchanged, report.absent) == (0, 3, 0, 0)
    assert any(note.startswith("3 animals were boxed by a detector or by hand before") for note in report.notes)
    found = rows(project)
    assert [(one["file_name"], one["source"], one["individual"], one["detector"]) for one in found] == [
        ("0.png", "herd", "z0", None),
        ("1.png", "herd", "z1", None),
        ("1.png", "card", None, "net"),  # another animal of the photo
        ("2.png", "herd", "z2", None),
    ]
    assert [one["key"] for one in found] == list(before.values())
    assert [one["box_x"] for one in found] == [1, 1, 30, 1]
    named = [entry for entry in ledger(project) if entry["action"] == "import"]
    assert sorted((e["individual_before"], e["individual_after"]) for e in named) == [
        (None, "z0"), (None, "z1"), (None, "z2")
    ]  # fmt: skip
    known = contents(project, without=("sources", "state"))
    again = do_import(project, table)
    assert (again.added, again.updated, again.unchanged, again.absent) == (0, 0, 3, 0)
    assert contents(project, without=("sources", "state")) == known


def test_what_a_person_decided_of_a_found_animal_stays(project: Project, tmp_path: Path) -> None:
    detected(project, {"0.png": [BOX]})
    (one,) = rows(project)
    with project.database.writing() as (connection, revision):
        deciding.correct(
            connection, revision, [one["key"]], "viewpoint", "up", settings=project.settings, actor="me"
        )  # fmt: skip
    silent = write_rows(tmp_path / "herd" / "silent.csv", [row(0, viewpoint="")])
    do_import(project, silent)
    assert [(one["viewpoint"], one["individual"]) for one in rows(project)] == [("up", "z0")]


@pytest.mark.parametrize(
    "changes",
    [
        {"x": 20},  # another box
        {"theta": 0.5},
        {"path": "3.png"},
    ],
)
def test_another_box_or_photo_is_another_animal(project: Project, table: Path, changes: dict[str, Any]) -> None:
    detected(project, {"0.png": [BOX]})
    draw_photo(table.parent / "3.png")
    write_rows(table, [row(0, **changes)])
    report = do_import(project, table)
    assert isinstance(report, ImportReport)
    assert (report.added, len(rows(project))) == (1, 2)


def test_a_dry_run_adopts_nothing(project: Project, table: Path) -> None:
    detected(project, {"0.png": [BOX]})
    before = contents(project)
    report = do_import(project, table, dry_run=True)
    assert isinstance(report, ImportReport)
    assert (report.added, report.updated) == (2, 1)
    assert contents(project) == before
