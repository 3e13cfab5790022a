from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from PIL import Image, ImageFilter
from sqlalchemy import select, update

from resight.catalogue import measuring, schema
from resight.catalogue.measuring import Measurement, Numbers
from resight.project import Project
from resight.quality import measure_catalogue

from ..made_up import encoded, noise
from .projects import annotations, contents, do_import, herd, row, with_settings


@pytest.fixture
def project(tmp_path: Path) -> Project:
    """Three zebras: sharp, blurred a little, and even grey; 0 and 1 are of one animal."""
    rows = [row(n, individual=("a", "a", "b")[n], x=10, y=10, w=180, h=80) for n in range(3)]
    file = herd(tmp_path / "herd", rows)
    sharp = noise(0, 20, 10).resize((200, 100))
    blurred = sharp.filter(ImageFilter.GaussianBlur(3))
    for number, picture in enumerate((sharp, blurred, Image.new("RGB", (200, 100)))):
        (tmp_path / "herd" / f"{number}.png").write_bytes(encoded(picture))
    project = Project.init(tmp_path / "project")
    do_import(project, file)
    return project


def measures(project: Project) -> dict[str, Any]:
    """File name → row of measures."""
    a, m = schema.annotation_table, schema.measures
    with project.database.reading() as connection:
        query = select(a.c.file_name, m).join(m, a.c.id == m.c.annotation_id)
        return {found.file_name: found for found in connection.execute(query)}


def edit(project: Project, table: Any, where: Any, **values: Any) -> None:
    with project.database.writing() as (connection, _):
        connection.execute(update(table).where(where).values(**values))


def test_numbers_come_back_as_they_were_stored(project: Project) -> None:
    first, second, third = (one.annotation_id for one in annotations(project))
    high = Numbers(12.5, 80.0, 33.0, 0.25, 2**64 - 1)
    with project.database.writing() as (connection, _):
        measuring.store_measures(connection, [])
        measuring.store_measures(
            connection, [Measurement(first, "k1", high), Measurement(second, "k2", Numbers(1.0, 2.0, 3.0, 0.0, 7))]
        )
        changed = Measurement(second, "k3", Numbers(9.0, 2.0, 3.0, 0.0, 8))
        gone = Measurement("gone", "k", high)
        measuring.store_measures(connection, [gone, changed, Measurement(third, "k4", high)])
        assert measuring.measured_keys(connection) == {first: "k1", second: "k3", third: "k4"}
        assert measuring.fingerprints(connection) == {
            first: (2**64 - 1, 12.5), second: (8, 9.0), third: (2**64 - 1, 12.5),
        }  # fmt: skip
        measuring.forget_measures(connection, [first, "gone"])
        assert measuring.measured_keys(connection) == {second: "k3", third: "k4"}
    stored = measures(project)["2.png"]
    assert (stored.sharpness, stored.side_px, stored.contrast, stored.cut_share) == (12.5, 80, 33, 0.25)


def test_who_stands_for_whom_is_stored_among_those_looked_at(project: Project) -> None:
    keys = [one.annotation_id for one in annotations(project)]
    with project.database.writing() as (connection, _):
        numbers = Numbers(1.0, 2.0, 3.0, 0.0, 7)
        measuring.store_measures(connection, [Measurement(key, "k", numbers) for key in keys])
        measuring.store_duplicates(connection, keys, {keys[1]: keys[0], keys[2]: keys[0]})
    assert [measures(project)[f"{n}.png"].duplicate_of for n in range(3)] == [None, keys[0], keys[0]]
    with project.database.writing() as (connection, _):
        measuring.store_duplicates(connection, keys[:2], {keys[0]: keys[1]})
    assert [measures(project)[f"{n}.png"].duplicate_of for n in range(3)] == [keys[1], None, keys[0]]


def test_a_catalogue_is_measured_once_and_says_what_its_rules_catch(project: Project) -> None:
    report = measure_catalogue(project.database, project.settings)
    assert (report.annotations, report.measured, report.failures, report.caught) == (3, 3, (), {})
    assert report.duplicates == 1
    found = measures(project)
    assert (found["2.png"].contrast, found["2.png"].sharpness, found["2.png"].side_px) == (0, 0, 80)
    assert found["0.png"].contrast > 100
    before = contents(project)
    again = measure_catalogue(project.database, project.settings)
    assert (again.annotations, again.measured, again.duplicates) == (3, 0, 1)
    assert contents(project) == before
    project = with_settings(project, "min_contrast = 20", under="quality")
    assert measure_catalogue(project.database, project.settings).caught == {"min_contrast 20": 1}
    assert [one.filtered for one in annotations(project)] == [None, None, "min_contrast 20"]
    anew = measure_catalogue(project.database, project.settings, species=["zebra"], anew=True)
    assert anew.measured == 3


def test_of_near_duplicates_the_one_that_no_other_rule_catches_stays(project: Project) -> None:
    measure_catalogue(project.database, project.settings)
    sharp, blurred, _ = (one.annotation_id for one in annotations(project))
    found = measures(project)
    assert found["0.png"].sharpness > found["1.png"].sharpness
    assert (found["0.png"].duplicate_of, found["1.png"].duplicate_of) == (None, sharp)
    project = with_settings(project, 'min_confidence = 0.5\nnear_duplicates = "one"', under="quality")
    assert measure_catalogue(project.database, project.settings).caught == {"near_duplicates one": 1}
    edit(project, schema.annotation_table, schema.annotation_table.c.file_name == "0.png", confidence=0.1)
    assert measure_catalogue(project.database, project.settings).caught == {"min_confidence 0.5": 1}
    assert measures(project)["0.png"].duplicate_of == blurred


def test_a_corrected_box_is_measured_anew(project: Project) -> None:
    measure_catalogue(project.database, project.settings)
    before = measures(project)
    one = schema.annotation_table.c.file_name == "0.png"
    edit(project, schema.annotation_table, one, box_x=0, box_w=60)
    report = measure_catalogue(project.database, project.settings)
    after = measures(project)
    assert report.measured == 1
    assert (before["0.png"].side_px, after["0.png"].side_px) == (80, 60)
    assert (before["0.png"].cut_share, after["0.png"].cut_share) == (0, pytest.approx(0.1 / 1.1, abs=1e-4))
    assert after["2.png"] == before["2.png"]


def test_numbers_of_another_box_are_forgotten_where_the_photo_is_gone(project: Project, tmp_path: Path) -> None:
    measure_catalogue(project.database, project.settings)
    for name in ("0.png", "1.png"):
        (tmp_path / "herd" / name).unlink()
    edit(project, schema.annotation_table, schema.annotation_table.c.file_name == "0.png", box_x=0, box_w=60)
    report = measure_catalogue(project.database, project.settings)
    assert [(failure.file_name, failure.reason) for failure in report.failures] == [("0.png", "missing")]
    assert sorted(measures(project)) == ["1.png", "2.png"]
    # Asked for anew, what can no longer be made again is kept.
    report = measure_catalogue(project.database, project.settings, anew=True)
    assert {failure.file_name for failure in report.failures} == {"0.png", "1.png"}
    assert sorted(measures(project)) == ["1.png", "2.png"]


def test_a_photo_that_turns_out_broken_is_quarantined_and_says_why_once(project: Project, tmp_path: Path) -> None:
    file = herd(tmp_path / "others", [row(0), row(1)], "others.csv")
    (tmp_path / "others" / "0.png").write_bytes(encoded(noise(0, 90, 90))[:-300])
    do_import(project, file, verify_images=False)
    for _ in range(2):
        report = measure_catalogue(project.database, project.settings)
        assert [failure.reason for failure in report.failures] == ["unreadable"]
        (broken,) = [one for one in contents(project)["images"] if "quarantined" in one]
        assert any("cannot be decoded" in str(value) for value in broken)
    learned = [one for one in annotations(project) if one.source == "others" and one.image_status == "ok"]
    assert [(one.file_name, one.content_hash is not None) for one in learned] == [("1.png", True)]
