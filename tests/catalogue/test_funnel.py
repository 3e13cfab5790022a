from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import Connection, insert, select, update

from resight.catalogue import funnel as funnels
from resight.catalogue import measuring, schema
from resight.catalogue.comparisons import Comparison, compared_with, record
from resight.catalogue.funnel import ANNOTATION_STEPS, PHOTO_STEPS, STEPS, Camera, FellOut, Funnel, Step, who_fell_out
from resight.catalogue.measuring import Measurement, Numbers
from resight.errors import UnknownName
from resight.project import Project

from .projects import annotations, do_import, herd, row, with_settings

# One of each falls out at each step, in this order; "through" goes all the way.
ANIMALS = (
    "unreadable", "unnamed", "unseen", "small", "not_allowed", "not_embedded", "not_compared", "alone", "unknown",
    "through",
)  # fmt: skip


@pytest.fixture
def project(tmp_path: Path) -> Project:
    rows = [row(n, path=f"{name}.png", viewpoint="left", individual=f"z{n}") for n, name in enumerate(ANIMALS)]
    of = {entry["path"].removesuffix(".png"): entry for entry in rows}
    of["unseen"]["viewpoint"] = ""
    of["unknown"]["individual"] = ""
    of["not_allowed"].update(species="lion", viewpoint="right")
    rows.append(row(20, path="newt.png", species="newt", viewpoint="", individual=""))  # its sides do not matter
    project = Project.init(tmp_path / "project")
    do_import(project, herd(tmp_path / "herd", rows))
    project = with_settings(project, "min_side_px = 60", under="quality")
    project = with_settings(project, 'lion = { only = ["left"] }', under="viewpoints.policy")
    keys = {one.file_name.removesuffix(".png"): one.annotation_id for one in annotations(project)}
    with project.database.writing() as (connection, _):
        set_image(connection, "unreadable.png", status="quarantined", problem="cut short")
        set_annotation(connection, "unnamed.png", species=None)
        measured = [
            Measurement(keys[name], "k", Numbers(20.0, 59.0 if name == "small" else 61.0, 90.0, 0.0, 0))
            for name in keys
            if name != "newt"
        ]
        measuring.store_measures(connection, measured)
        record(
            connection,
            [Comparison(keys[name], "m", 5, 9) for name in ("through", "unknown", "unreadable")]
            + [Comparison(keys["alone"], "m", 0, 1), Comparison(keys["not_compared"], "other", 5, 9)],
        )
        raw(connection, "DCIM/new.jpg", source="herd")
        raw(connection, "DCIM/torn.jpg", source="herd", status="quarantined", problem="empty")
        raw(connection, "DCIM/empty.jpg", source="herd", detector="md", detector_best=0.1234, species="lion")
        raw(connection, "DCIM/nothing.jpg", source="herd", detector="md")
    return project


def set_image(connection: Connection, path: str, **values: Any) -> None:
    connection.execute(update(schema.images).where(schema.images.c.path == path).values(**values))


def set_annotation(connection: Connection, file_name: str, **values: Any) -> None:
    table = schema.annotation_table
    connection.execute(update(table).where(table.c.file_name == file_name).values(**values))


def raw(connection: Connection, path: str, *, source: str | None = None, status: str = "ok", **values: Any) -> None:
    source_id = select(schema.sources.c.id).where(schema.sources.c.name == source).scalar_subquery()
    connection.execute(
        insert(schema.images).values(root="herd", path=path, status=status, source_id=source_id, **values)
    )


def embedded(project: Project) -> set[str]:
    return {one.annotation_id for one in annotations(project) if one.file_name != "not_embedded.png"}


def counted(project: Project, model: str | None = "m") -> Funnel:
    with project.database.reading() as connection:
        return funnels.funnel(connection, project.settings, model=model, embedded=embedded(project))


def listed(project: Project, step: str, model: str | None = "m") -> list[FellOut]:
    with project.database.reading() as connection:
        return list(who_fell_out(connection, project.settings, step, model=model, embedded=embedded(project)))


def by_name(funnel: Funnel) -> dict[str, Step]:
    return {step.name: step for step in funnel.steps}


def test_one_falls_out_at_every_step(project: Project) -> None:
    assert counted(project) == Funnel(
        "m",
        (
            Step("photos", "photos", 15, 0, {}, 15),
            Step("readable", "photos", 13, 2, {"cannot be read": 2}, 13),
            Step("detected", "photos", 10, 3, {"no animal found": 2, "no detector has looked": 1}, 11),
            Step("annotations", "annotations", 10, 1, {"photo cannot be read": 1}, 10),
            Step("species", "annotations", 9, 1, {"species unknown": 1}, 10),
            Step("viewpoint", "annotations", 8, 1, {"viewpoint unknown": 1}, 8, not_asked=1),
            Step("quality", "annotations", 6, 2, {"min_side_px 60": 1, "viewpoint policy": 1}, 8, not_asked=1),
            Step("embedded", "annotations", 5, 1, {"no vector of m": 1}, 9),
            Step("compared", "annotations", 2, 3, {"never compared": 2, "compared with nothing": 1}, 3),
            Step("identified", "annotations", 1, 1, {"no individual": 1}, 9),
        ),
    )


def test_who_fell_out_is_listed_with_the_reason_in_full(project: Project) -> None:
    found = {step: [(one.file_name, one.reason) for one in listed(project, step)] for step in STEPS}
    assert {step: sorted(rows) for step, rows in found.items()} == {
        "photos": [],
        "readable": [("DCIM/torn.jpg", "empty"), ("unreadable.png", "cut short")],
        "detected": [
            ("DCIM/empty.jpg", "no animal found by md (best 0.12)"),
            ("DCIM/new.jpg", "no detector has looked"),
            ("DCIM/nothing.jpg", "no animal found by md"),
        ],
        "annotations": [("unreadable.png", "photo cannot be read")],
        "species": [("unnamed.png", "species unknown")],
        "viewpoint": [("unseen.png", "viewpoint unknown")],
        "quality": [("not_allowed.png", "viewpoint policy"), ("small.png", "min_side_px 60")],
        "embedded": [("not_embedded.png", "no vector of m")],
        "compared": [
            ("alone.png", "compared with nothing"),
            ("newt.png", "never compared"),
            ("not_compared.png", "never compared"),
        ],
        "identified": [("unknown.png", "no individual")],
    }
    empty = next(one for one in listed(project, "detected") if one.file_name == "DCIM/empty.jpg")
    assert (empty.source, empty.species) == ("herd", "lion")
    torn = next(one for one in listed(project, "readable") if one.file_name == "unreadable.png")
    assert torn.source == "herd"  # by its annotation
    (unknown,) = listed(project, "identified")
    assert unknown.id == next(one.annotation_id for one in annotations(project) if one.file_name == "unknown.png")
    assert (unknown.source, unknown.species) == ("herd", "zebra")


def test_nothing_vanishes_between_steps(project: Project) -> None:
    steps = by_name(counted(project))
    for names in (PHOTO_STEPS, ANNOTATION_STEPS):
        before = steps[names[0]].count + steps[names[0]].fell_out
        for name in names:
            step = steps[name]
            assert step.count + step.fell_out == before
            assert sum(step.reasons.values()) == step.fell_out == len(listed(project, name))
            before = step.count


def test_without_a_model_any_comparison_counts_and_nothing_has_a_vector(project: Project) -> None:
    with project.database.reading() as connection:
        found = by_name(funnels.funnel(connection, project.settings, model=None, embedded=None))
        of = {one.file_name: compared_with(connection, None).get(one.annotation_id) for one in annotations(project)}
    assert (of["not_compared.png"], of["alone.png"], of["newt.png"]) == (5, 0, None)
    assert (found["embedded"].count, found["embedded"].reasons) == (0, {"no vector": 6})
    assert (found["compared"].count, found["compared"].in_all) == (0, 4)
    assert (found["identified"].count, found["identified"].in_all) == (0, 9)
    other = by_name(counted(project, "other"))
    assert (other["compared"].count, other["compared"].in_all) == (1, 1)


def test_what_is_only_proposed_passes_and_is_told(project: Project) -> None:
    table = schema.annotation_table
    with project.database.writing() as (connection, _):
        for name, field, value in (("unnamed", "species", "zebra"), ("unseen", "viewpoint", "right")):
            row_id = connection.execute(select(table.c.id).where(table.c.file_name == f"{name}.png")).scalar_one()
            connection.execute(
                insert(schema.proposals).values(
                    annotation_id=row_id, field=field, value=value, confidence=0.9, model="head", at_utc="now"
                )
            )
    found = by_name(counted(project))
    assert (found["species"].count, found["species"].proposed) == (10, 1)
    assert (found["viewpoint"].count, found["viewpoint"].proposed) == (10, 1)


def test_all_that_a_rule_catches_is_listed_wherever_it_falls_out(project: Project) -> None:
    with project.database.writing() as (connection, _):
        set_annotation(connection, "small.png", viewpoint=None)
    assert [one.file_name for one in listed(project, "quality")] == ["not_allowed.png"]
    with project.database.reading() as connection:
        found = list(funnels.filtered(connection, project.settings))
    assert [(one.file_name, one.reason, one.species) for one in found] == [("small.png", "min_side_px 60", "zebra")]


def test_an_empty_catalogue_has_all_steps_and_an_unknown_one_names_them(tmp_path: Path) -> None:
    project = Project.init(tmp_path / "empty")
    with project.database.reading() as connection:
        found = funnels.funnel(connection, project.settings, model=None, embedded=None)
        assert [(step.name, step.count, step.fell_out) for step in found.steps] == [(name, 0, 0) for name in STEPS]
        with pytest.raises(UnknownName, match="did you mean 'detected'"):
            who_fell_out(connection, project.settings, "detect", model=None, embedded=None)


# Comparisons


@pytest.fixture
def writing(project: Project) -> Iterator[Connection]:
    with project.database.writing() as (connection, _):
        yield connection


def test_the_last_comparison_by_a_model_counts(project: Project, writing: Connection) -> None:
    key = annotations(project)[0].annotation_id
    before = compared_with(writing, "m")
    assert record(writing, []) == 0
    assert record(writing, [Comparison("gone", "m", 1, 1)]) == 0
    assert record(writing, [Comparison(key, "m", 1, 8), Comparison(key, "m", 2, 8), Comparison(key, "n", 7, 8)]) == 2
    assert record(writing, [Comparison(key, "n", 6, 8)]) == 1
    assert compared_with(writing, "m") == {**before, key: 2}
    assert compared_with(writing, "n") == {key: 6}
    assert compared_with(writing, None)[key] == 6
    c = schema.comparisons.c
    rows = writing.execute(select(c.model, c.compared, c.of, c.at_utc).where(c.model == "n")).all()
    assert [(row.model, row.compared, row.of, row.at_utc[:2]) for row in rows] == [("n", 6, 8, "20")]


# Cameras


def test_cameras_and_what_their_clocks_said(project: Project) -> None:
    with project.database.writing() as (connection, _):
        times = ("1970-01-01T00:10:00", "2024-05-02T08:00:00", "2024-05-01T08:00:00")
        for number, time in enumerate(times):
            plausible = None if time < "1990" else time
            raw(connection, f"{number}.jpg", source="herd", camera="NIKON D5", camera_time=time, taken_at=plausible)
        raw(connection, "3.jpg", camera="APPLE")  # without a source
    with project.database.reading() as connection:
        assert funnels.cameras(connection) == [
            Camera("APPLE", 1, None, None, 1),
            Camera("NIKON D5", 3, times[0], times[1], 1),
            Camera(None, 4, None, None, 4),
        ]
