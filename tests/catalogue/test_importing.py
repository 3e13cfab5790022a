from __future__ import annotations

import random
import shutil
import uuid
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from sqlalchemy import insert, select

from resight.catalogue import schema
from resight.catalogue.importing import annotation_key, source_key, unmapped_viewpoints
from resight.errors import InputError, SettingsError
from resight.project import Project
from resight.settings import Settings
from resight.types import Box, Record

from .drawn import coco_annotation, coco_document, coco_image, write_json
from .projects import (
    annotations,
    contents,
    decide,
    do_import,
    draw_photo,
    herd,
    ledger,
    row,
    with_settings,
    write_rows,
)

ROWS = [row(n) for n in range(4)]
NO_TIMES = ("sources", "state")  # when a source was imported last, and how often anything was


@pytest.fixture
def project(tmp_path: Path) -> Project:
    return Project.init(tmp_path / "project")


def individual_id(project: Project, scope: str, name: str) -> int:
    """The key of an individual, made where it is new."""
    table = schema.individuals
    with project.database.writing() as (connection, _):
        query = select(table.c.id).where(table.c.scope == scope, table.c.name == name)
        found = connection.execute(query).scalar_one_or_none()
        if found is None:
            connection.execute(insert(table).values(scope=scope, name=name))
            found = connection.execute(query).scalar_one()
        return int(found)


def named(project: Project) -> list[tuple[str, str | None]]:
    return [(a.species, a.individual) for a in annotations(project)]


def identities(entry: Mapping[str, Any]) -> tuple[Any, ...]:
    """Species and individual before and after."""
    return tuple(entry[name] for name in ("species_before", "individual_before", "species_after", "individual_after"))


# Keys


def test_the_key_of_an_annotation_is_fixed() -> None:
    record = Record("2", "a/1.jpg", box=Box(10, 20.5, 30, 40), theta_rad=0.25)
    assert source_key(record) == "file:a/1.jpg@10,20.5,30,40@0.25"
    assert source_key(Record("2", "a/1.jpg")) == "file:a/1.jpg@whole@0"
    assert source_key(Record("2", "a/1.jpg", source_id="7", box=Box(1, 2, 3, 4))) == "id:7"
    key = annotation_key("herd", "id:7")
    assert key == str(uuid.uuid5(uuid.UUID("8d3b1a52-5a70-4c5e-9c5b-6f1f0d4f7c11"), "herd\nid:7"))
    assert annotation_key("herd", "id:7") != annotation_key("Herd", "id:7")


@given(st.lists(st.integers(1, 32_767_000).map(lambda value: value / 1000), min_size=8, max_size=8))
def test_boxes_that_differ_have_different_keys(numbers: list[float]) -> None:
    first, second = Box(*numbers[:4]), Box(*numbers[4:])
    keys = {source_key(Record("1", "a", box=box)) for box in (first, second)}
    assert len(keys) == (1 if first == second else 2)


def test_an_annotation_has_the_same_id_on_two_machines(tmp_path: Path) -> None:
    ids = []
    for machine, rows in (("one", ROWS), ("two", ROWS[::-1])):
        path = herd(tmp_path / machine / "photos", rows)
        project = Project.init(tmp_path / machine / "project")
        if machine == "two":
            do_import(project, herd(tmp_path / "more", [row(9)], "more.csv"))
        do_import(project, path)
        ids.append({a.file_name: a.annotation_id for a in annotations(project) if a.source == "herd"})
    assert ids[0] == ids[1]


# Importing again


def test_importing_twice_adds_nothing(project: Project, tmp_path: Path) -> None:
    path = herd(tmp_path / "herd", [*ROWS, row(4, path="0.png", x=20, individual="", date="2024-05-01")])
    first = do_import(project, path)
    assert (first.added, first.updated, first.unchanged, first.absent) == (5, 0, 0, 0)
    before = contents(project, without=NO_TIMES)
    assert len(ledger(project)) == 4
    second = do_import(project, path)
    assert (second.added, second.updated, second.unchanged, second.absent) == (0, 0, 5, 0)
    assert second.changes == ()
    assert contents(project, without=NO_TIMES) == before


@pytest.mark.parametrize(
    "how", ["shuffled", "columns", "semicolons", "numbers", "backslashes", "workbook", "unverified"]
)
def test_the_same_dataset_saved_otherwise_adds_nothing(project: Project, tmp_path: Path, how: str) -> None:
    rows = [*(row(n, path=f"a/{n}.png") for n in range(3)), row(3, path="a/0.png", x=20.25, date="")]
    path = herd(tmp_path / "herd", rows)
    do_import(project, path)
    before = contents(project, without=NO_TIMES)
    options: dict[str, Any] = {}
    if how == "shuffled":
        write_rows(path, random.Random(1).sample(rows, len(rows)))
    elif how == "columns":
        write_rows(path, [dict(reversed(entry.items())) for entry in rows])
    elif how == "semicolons":
        write_rows(path, rows, delimiter=";", encoding="utf-8-sig")
    elif how == "numbers":
        write_rows(path, [{**entry, "x": f"{entry['x']:.3f}", "w": "3.0e1"} for entry in rows])
    elif how == "backslashes":
        write_rows(path, [{**entry, "path": f".\\{entry['path']}".replace("/", "\\")} for entry in rows])
    elif how == "workbook":
        import openpyxl

        book = openpyxl.Workbook()
        sheet = book.active
        assert sheet is not None
        for cells in (list(rows[0]), *(list(entry.values()) for entry in rows)):
            sheet.append(cells)
        path.unlink()
        path = path.with_suffix(".xlsx")
        book.save(path)
    else:
        options["verify_images"] = False
    report = do_import(project, path, **options)
    assert (report.added, report.updated, report.unchanged, report.absent) == (0, 0, 4, 0)
    assert contents(project, without=NO_TIMES) == before


def test_a_folder_that_moved_is_the_same_dataset(project: Project, tmp_path: Path) -> None:
    do_import(project, herd(tmp_path / "herd", ROWS))
    before = contents(project, without=NO_TIMES)
    (tmp_path / "herd").rename(tmp_path / "elsewhere")
    report = do_import(project, tmp_path / "elsewhere" / "herd.csv")
    assert (report.added, report.updated, report.unchanged) == (0, 0, 4)
    assert contents(project, without=NO_TIMES) == before
    assert project.settings.image_roots == {"herd": (tmp_path / "elsewhere").resolve()}


def test_a_folder_of_two_sources_that_moved_keeps_one_root(project: Project, tmp_path: Path) -> None:
    do_import(project, herd(tmp_path / "photos", ROWS))
    do_import(project, herd(tmp_path / "photos", ROWS, "other.csv"))
    before = contents(project, without=NO_TIMES)
    (tmp_path / "photos").rename(tmp_path / "elsewhere")
    for name in ("other", "herd"):
        assert do_import(project, tmp_path / "elsewhere" / f"{name}.csv").unchanged == 4
    assert contents(project, without=NO_TIMES) == before
    assert list(project.settings.image_roots) == ["herd"]


def test_a_copy_of_the_folder_adds_nothing(project: Project, tmp_path: Path) -> None:
    do_import(project, herd(tmp_path / "herd", ROWS))
    shutil.copytree(tmp_path / "herd", tmp_path / "copy")
    report = do_import(project, tmp_path / "copy" / "herd.csv")
    assert (report.added, report.updated) == (0, 4)
    assert {(c.field, c.before, c.after) for c in report.changes} == {
        ("photo", f"herd/{n}.png", f"herd-2/{n}.png") for n in range(4)
    }


# Corrected files


def test_a_corrected_file_updates_and_says_what_changed(project: Project, tmp_path: Path) -> None:
    path = herd(tmp_path / "herd", [{**entry, "encounter": "E1", "latitude": 1.5, "longitude": 2} for entry in ROWS])
    do_import(project, path)
    ids = [a.annotation_id for a in annotations(project)]
    rows = [{**entry, "encounter": "E1", "latitude": 1.5, "longitude": 2} for entry in ROWS]
    rows[0]["viewpoint"] = "right"
    rows[1]["encounter"] = "E2"
    rows[2] |= {"date": "2024-06-01", "latitude": 3}
    rows[3]["individual"] = "other"
    report = do_import(project, write_rows(path, rows))
    assert (report.added, report.updated, report.unchanged) == (0, 4, 0)
    assert {(c.annotation_id, c.field, c.before, c.after) for c in report.changes} == {
        (ids[0], "viewpoint", "left", "right"),
        (ids[0], "source_viewpoint", "left", "right"),
        (ids[1], "encounter", "E1", "E2"),
        (ids[2], "taken_at", "2024-05-03", "2024-06-01"),
        (ids[2], "latitude", 1.5, 3.0),
        (ids[3], "individual", "z3", "other"),
    }
    found = annotations(project)
    assert [a.annotation_id for a in found] == ids
    assert [a.viewpoint for a in found] == ["right", "left", "left", "left"]
    assert found[2].taken_at == "2024-06-01"
    assert found[1].encounter != found[2].encounter
    again = do_import(project, path)
    assert (again.updated, again.changes) == (0, ())


def test_an_identity_changes_through_the_ledger(project: Project, tmp_path: Path) -> None:
    path = herd(tmp_path / "herd", [row(0), row(1, individual=""), row(2), row(3)])
    do_import(project, path)
    assert [(e["action"], e["individual_before"], e["individual_after"]) for e in ledger(project)] == [
        ("import", None, "z0"), ("import", None, "z2"), ("import", None, "z3"),
    ]  # fmt: skip
    do_import(
        project, write_rows(path, [row(0, individual="A"), row(1, individual="B"), row(2, individual=""), row(3)])
    )
    ids = [a.annotation_id for a in annotations(project)]
    entries = ledger(project)[3:]
    assert [(entry["annotation_key"], *identities(entry)) for entry in entries] == [
        (ids[0], "zebra", "z0", "zebra", "A"),
        (ids[1], "zebra", None, "zebra", "B"),
        (ids[2], "zebra", "z2", "zebra", None),
    ]
    assert {(e["revision"], e["note"]) for e in entries} == {(2, "source herd")}
    assert all(e["actor"] and e["at_utc"] for e in entries)
    assert [name for _, name in named(project)] == ["A", "B", None, "z3"]


def test_rows_that_are_gone_are_counted_and_kept(project: Project, tmp_path: Path) -> None:
    path = herd(tmp_path / "herd", ROWS)
    do_import(project, path)
    report = do_import(project, write_rows(path, ROWS[:1]))
    assert (report.added, report.unchanged, report.absent, report.annotations) == (0, 1, 3, 1)
    assert len(annotations(project)) == 4


def test_a_corrected_box_keeps_the_annotation_id(project: Project, tmp_path: Path) -> None:
    path = herd(tmp_path / "herd", ROWS)
    do_import(project, path)
    before = [a.annotation_id for a in annotations(project)]
    report = do_import(project, write_rows(path, [row(0, x=5, h=25), *ROWS[1:]]))
    assert (report.added, report.updated, report.unchanged, report.absent) == (0, 1, 3, 0)
    assert {(c.field, c.before, c.after) for c in report.changes} == {("box_x", 1, 5), ("box_h", 20, 25)}
    found = annotations(project)
    assert [a.annotation_id for a in found] == before
    assert found[0].box == Box(5, 2, 30, 25)
    assert do_import(project, path).unchanged == 4


def test_another_animal_in_the_first_box_is_another_annotation(project: Project, tmp_path: Path) -> None:
    path = herd(tmp_path / "herd", [row(0)])
    do_import(project, path)
    do_import(project, write_rows(path, [row(0, x=5)]))
    report = do_import(project, write_rows(path, [row(0, x=5), row(1, path="0.png", date="2024-05-01")]))
    assert (report.added, report.unchanged) == (1, 1)
    assert [(a.individual, a.box and a.box.x) for a in annotations(project)] == [("z1", 1), ("z0", 5)]
    again = do_import(project, path)
    assert (again.added, again.unchanged) == (0, 2)


def test_two_boxes_of_one_photo_are_told_apart_to_a_fraction_of_a_pixel(project: Project, tmp_path: Path) -> None:
    rows = [row(0, x=1234.561, y=0, w=2000), row(1, path="0.png", x=1234.562, y=0, w=2000, date="2024-05-01")]
    path = herd(tmp_path / "herd", rows)
    assert do_import(project, path, verify_images=False).added == 2


def test_an_annotation_with_an_id_keeps_it_whatever_changes(project: Project, tmp_path: Path) -> None:
    path = herd(tmp_path / "herd", [row(0, annotation_id="a", theta=0), row(1, annotation_id="b", theta=0)])
    do_import(project, path)
    before = {a.individual: a.annotation_id for a in annotations(project)}
    draw_photo(tmp_path / "herd" / "new.png")
    write_rows(path, [row(1, annotation_id="b", theta=0), row(0, annotation_id="a", path="new.png", x=9, theta=1)])
    report = do_import(project, path)
    assert (report.added, report.updated, report.unchanged) == (0, 1, 1)
    assert {c.field for c in report.changes} == {"file_name", "photo", "box_x", "theta_rad"}
    assert {a.individual: a.annotation_id for a in annotations(project)} == before


def test_a_photo_that_was_replaced_is_reported(project: Project, tmp_path: Path) -> None:
    path = herd(tmp_path / "herd", ROWS)
    do_import(project, path)
    before = annotations(project)[0].content_hash
    draw_photo(tmp_path / "herd" / "0.png", kind="another")
    report = do_import(project, path)
    after = annotations(project)[0].content_hash
    assert (report.updated, report.unchanged) == (1, 3)
    assert [(c.field, c.before, c.after) for c in report.changes] == [("photo_content", before, after)]
    assert before != after


# Dates and places of photos


def test_what_one_row_states_of_a_photo_holds_for_all_its_rows(project: Project, tmp_path: Path) -> None:
    rows = [row(0, date=""), row(1, path="0.png", x=9, date="2024-05-09", latitude=-2, longitude=30)]
    path = herd(tmp_path / "herd", [{"latitude": "", "longitude": ""} | entry for entry in rows])
    do_import(project, path)
    assert [a.taken_at for a in annotations(project)] == ["2024-05-09", "2024-05-09"]


def test_rows_that_disagree_about_a_photo_are_counted_and_their_order_does_not_matter(
    project: Project, tmp_path: Path
) -> None:
    rows = [
        row(0, date="2024-05-02", latitude=1, longitude=5),
        row(1, path="0.png", x=9, date="2024-05-01", latitude=2, longitude=4),
    ]
    path = herd(tmp_path / "herd", rows)
    report = do_import(project, path)
    assert "1 images have rows with different dates; the earliest is taken" in report.notes
    assert "1 images have rows with different positions; the southernmost is taken" in report.notes
    before = contents(project, without=NO_TIMES)
    assert do_import(project, write_rows(path, rows[::-1])).unchanged == 2
    assert contents(project, without=NO_TIMES) == before
    assert annotations(project)[0].taken_at == "2024-05-01"


def test_a_date_that_the_file_takes_back_is_gone(project: Project, tmp_path: Path) -> None:
    path = herd(tmp_path / "herd", ROWS)
    do_import(project, path)
    report = do_import(project, write_rows(path, [row(0, date=""), *ROWS[1:]]))
    assert [(c.field, c.before, c.after) for c in report.changes] == [("taken_at", "2024-05-01", None)]
    assert annotations(project)[0].taken_at is None


def test_a_source_that_knows_no_date_does_not_take_another_s(project: Project, tmp_path: Path) -> None:
    do_import(project, herd(tmp_path / "photos", ROWS))
    other = write_rows(tmp_path / "photos" / "faces.csv", [row(n, date="", species="zebra+face") for n in range(4)])
    do_import(project, other)
    assert {a.taken_at for a in annotations(project)} == {f"2024-05-0{n}" for n in range(1, 5)}
    assert do_import(project, tmp_path / "photos" / "herd.csv").unchanged == 4


# A person's decisions


def decided(project: Project, tmp_path: Path) -> tuple[Path, str]:
    """A herd in which somebody has decided that the first zebra is Ayo, and that the second is nobody known."""
    path = herd(tmp_path / "herd", ROWS)
    do_import(project, path)
    ayo = individual_id(project, "zebra", "Ayo")
    first, second, *_ = annotations(project)
    with project.database.writing() as (connection, _):
        decide(connection, first.annotation_id, ayo)
        decide(connection, second.annotation_id, None)
    return path, first.annotation_id


def test_a_person_s_decision_outlives_importing_the_file_again(project: Project, tmp_path: Path) -> None:
    path, _ = decided(project, tmp_path)
    entries = len(ledger(project))
    report = do_import(project, path)
    assert (report.updated, report.unchanged) == (0, 4)
    assert [name for _, name in named(project)] == ["Ayo", None, "z2", "z3"]
    assert len(ledger(project)) == entries


def test_a_decision_outlives_a_correction_of_something_else(project: Project, tmp_path: Path) -> None:
    path, _ = decided(project, tmp_path)
    entries = len(ledger(project))
    report = do_import(project, write_rows(path, [row(0, x=7), row(1, viewpoint="up"), *ROWS[2:]]))
    assert report.updated == 2
    assert [name for _, name in named(project)] == ["Ayo", None, "z2", "z3"]
    assert len(ledger(project)) == entries


def test_a_source_that_comes_to_the_same_conclusion_changes_nothing(project: Project, tmp_path: Path) -> None:
    path, _ = decided(project, tmp_path)
    entries = len(ledger(project))
    report = do_import(project, write_rows(path, [row(0, individual="Ayo"), *ROWS[1:]]))
    assert (report.changes, report.unchanged) == ((), 4)
    assert len(ledger(project)) == entries
    assert named(project)[0] == ("zebra", "Ayo")


def test_a_source_that_names_another_animal_since_is_followed_and_the_ledger_has_both(
    project: Project, tmp_path: Path
) -> None:
    path, first = decided(project, tmp_path)
    report = do_import(project, write_rows(path, [row(0, individual="Bea"), *ROWS[1:]]))
    assert [(c.field, c.before, c.after) for c in report.changes] == [("individual", "Ayo", "Bea")]
    last = ledger(project)[-1]
    assert (last["annotation_key"], last["individual_before"], last["individual_after"]) == (first, "Ayo", "Bea")


def test_a_decision_outlives_a_merge_of_its_species(project: Project, tmp_path: Path) -> None:
    path, _ = decided(project, tmp_path)
    project = with_settings(project, '[[merge.species]]\ninto = "equus"\nfrom = ["zebra"]')
    report = do_import(project, path)
    assert report.updated == 4
    assert named(project) == [("equus", "Ayo"), ("equus", None), ("equus", "z2"), ("equus", "z3")]
    assert do_import(project, path).unchanged == 4
    assert [identities(entry) for entry in ledger(project)[4:]] == [
        ("zebra", "Ayo", "equus", "Ayo"), ("zebra", "z2", "equus", "z2"), ("zebra", "z3", "equus", "z3"),
    ]  # fmt: skip


# Identity across species and sources


def individuals(project: Project) -> set[tuple[str, str]]:
    """(scope, name) of the individuals that annotations bear."""
    i, a = schema.individuals.c, schema.annotation_table.c
    query = select(i.scope, i.name).join(schema.annotation_table, a.individual_id == i.id)
    with project.database.reading() as connection:
        return {(found.scope, found.name) for found in connection.execute(query)}


def test_one_name_in_two_species_is_two_individuals(project: Project, tmp_path: Path) -> None:
    rows = [row(0, individual="001"), row(1, individual="001", species="lion"), row(2, individual="001")]
    report = do_import(project, herd(tmp_path / "herd", rows))
    assert individuals(project) == {("zebra", "001"), ("lion", "001")}
    assert (report.individuals, report.species) == (2, 2)
    assert project.stats().totals.individuals == 2


def test_one_name_in_two_sources_of_a_species_is_one_individual(project: Project, tmp_path: Path) -> None:
    for name in ("east", "west"):
        do_import(project, herd(tmp_path / name, [row(0, individual="001")], f"{name}.csv"))
    assert individuals(project) == {("zebra", "001")}


def test_names_of_a_source_with_global_ids_hold_across_species(project: Project, tmp_path: Path) -> None:
    project = with_settings(project, 'global_ids = ["tags"]', under="sources")
    rows = [row(0, individual="T1"), row(1, individual="T1", species="zebra+face")]
    do_import(project, herd(tmp_path / "tags", rows, "tags.csv"))
    assert individuals(project) == {(schema.GLOBAL_SCOPE, "T1")}
    do_import(project, herd(tmp_path / "herd", [row(0, individual="T1", species="cow")]))
    assert individuals(project) == {(schema.GLOBAL_SCOPE, "T1"), ("cow", "T1")}


def test_the_merge_table_makes_species_and_individuals_one(project: Project, tmp_path: Path) -> None:
    project = with_settings(
        project,
        """
[[merge.species]]
into = "lion"
from = ["panthera_leo", "simba"]

[[merge.species]]
into = "lion_west"
from = ["simba"]
source = "west"

[[merge.individuals]]
species = "lion"
into = "Ayo"
from = ["L-1", "L-2"]

[[merge.individuals]]
species = "lion"
into = "Bea"
from = ["L-2"]
source = "west"
""",
    )
    rows = [
        row(0, species="panthera_leo", individual="L-1"),
        row(1, species="simba", individual="L-2"),
        row(2, species="lion", individual="Ayo"),
    ]
    for name in ("east", "west"):
        do_import(project, herd(tmp_path / name, rows, f"{name}.csv"))
    assert sorted((a.source, a.file_name, a.species, a.individual) for a in annotations(project)) == [
        ("east", "0.png", "lion", "Ayo"), ("east", "1.png", "lion", "Ayo"), ("east", "2.png", "lion", "Ayo"),
        ("west", "0.png", "lion", "Ayo"), ("west", "1.png", "lion_west", "L-2"), ("west", "2.png", "lion", "Ayo"),
    ]  # fmt: skip
    assert individuals(project) == {("lion", "Ayo"), ("lion_west", "L-2")}
    assert do_import(project, tmp_path / "east" / "east.csv").unchanged == 3


def test_a_merge_made_later_changes_identities_through_the_ledger(project: Project, tmp_path: Path) -> None:
    path = herd(tmp_path / "herd", [row(0), row(1), row(2, individual="")])
    do_import(project, path)
    ids = [a.annotation_id for a in annotations(project)]
    project = with_settings(project, '[[merge.individuals]]\nspecies = "zebra"\ninto = "z1"\nfrom = ["z0"]')
    report = do_import(project, path)
    assert [(c.annotation_id, c.field, c.before, c.after) for c in report.changes] == [
        (ids[0], "individual", "z0", "z1")
    ]
    merged = '[[merge.species]]\ninto = "equus+flank"\nfrom = ["zebra"]'
    with pytest.raises(SettingsError, match=r"merge\.individuals names 'zebra', which is merged into 'equus\+flank'"):
        with_settings(project, merged)
    settings = project.settings.file
    settings.write_text(settings.read_text().replace('species = "zebra"', 'species = "quagga"'))
    project = Project.open(project.folder)
    report = do_import(project, path)
    assert {(c.annotation_id, c.field, c.before, c.after) for c in report.changes} == {
        *((key, "species", "zebra", "equus+flank") for key in ids),
        *((key, "part", None, "flank") for key in ids),
        (ids[0], "individual", "z1", "z0"),
    }
    assert [(entry["revision"], *identities(entry)) for entry in ledger(project)] == [
        (1, None, None, "zebra", "z0"),
        (1, None, None, "zebra", "z1"),
        (2, "zebra", "z0", "zebra", "z1"),
        (3, "zebra", "z1", "equus+flank", "z0"),
        (3, "zebra", "z1", "equus+flank", "z1"),
    ]  # fmt: skip
    assert {(a.species, a.part) for a in annotations(project)} == {("equus+flank", "flank")}


# Viewpoints


def test_unmapped_viewpoints_are_counted_and_kept_as_unknown(project: Project, tmp_path: Path) -> None:
    spellings = ["teeth", "Teeth", "teeth", "left", "", "face"]
    rows = [row(n, viewpoint=spelling) for n, spelling in enumerate(spellings)]
    report = do_import(project, herd(tmp_path / "herd", rows))
    assert report.unmapped_viewpoints == {"teeth": 2, "Teeth": 1, "face": 1}
    assert [a.viewpoint for a in annotations(project)] == [None, None, None, "left", None, None]


def test_an_alias_added_later_maps_what_was_unmapped(project: Project, tmp_path: Path) -> None:
    path = herd(tmp_path / "herd", [row(0, viewpoint="teeth"), row(1)])
    do_import(project, path)
    project = with_settings(project, 'teeth = "front"', under="viewpoints.aliases")
    report = do_import(project, path)
    assert [(c.field, c.before, c.after) for c in report.changes] == [("viewpoint", None, "front")]
    assert report.unmapped_viewpoints == {}


@given(st.lists(st.sampled_from(["left", "teeth", None, "7"])))
def test_unmapped_and_mapped_and_unknown_add_up(spellings: Sequence[str | None]) -> None:
    records = [Record(str(n), "a", viewpoint=spelling) for n, spelling in enumerate(spellings)]
    unmapped = unmapped_viewpoints(records, Settings(Path()))
    assert sum(unmapped.values()) + spellings.count("left") + spellings.count(None) == len(spellings)


# COCO


def test_coco_twice_and_corrected(project: Project, tmp_path: Path) -> None:
    def write(annotated: Sequence[Any]) -> Path:
        images = [coco_image(n, file_name=f"{n}.png", width=60, height=40) for n in range(3)]
        return write_json(tmp_path / "zoo" / "zoo.json", coco_document(annotated, images))

    def one(n: int, **changes: Any) -> dict[str, Any]:
        return coco_annotation(n, bbox=[1, 2, 30, 20], **changes)

    for n in range(3):
        draw_photo(tmp_path / "zoo" / f"{n}.png")
    outline = [[1, 2, 30.5, 2, 30.5, 20]]
    path = write([one(n, segmentation=outline) for n in range(3)])
    assert do_import(project, path).added == 3
    before = contents(project, without=NO_TIMES)
    write([one(n, segmentation=outline) for n in (2, 0, 1)])
    assert do_import(project, path).unchanged == 3
    assert contents(project, without=NO_TIMES) == before
    write([one(0, segmentation=outline), one(1, name="____", segmentation=outline), one(2)])
    report = do_import(project, path)
    assert [(c.field, c.before, c.after) for c in report.changes] == [
        ("individual", "z1", None), ("outline", outline, None),
    ]  # fmt: skip


# Another dataset under the same name


def test_another_dataset_does_not_overwrite_one_of_the_same_name(project: Project, tmp_path: Path) -> None:
    rows = [row(n, annotation_id=n) for n in range(4)]
    do_import(project, herd(tmp_path / "east" / "herd", rows))
    before, settings = contents(project), project.settings.file.read_bytes()
    other = herd(tmp_path / "west" / "herd", [{**entry, "individual": "w"} for entry in rows], kind="west")
    with pytest.raises(InputError, match=r"source 'herd' was imported from .*east.*4 of the 4.*--source"):
        do_import(project, other)
    assert contents(project) == before
    assert project.settings.file.read_bytes() == settings
    assert do_import(project, other, source="west").added == 4
    assert do_import(project, other, source="herd").updated == 4


def test_the_ledger_is_written_by_somebody(project: Project, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def nobody() -> str:
        raise KeyError("getpwuid(): uid not found: 4711")

    monkeypatch.setattr("getpass.getuser", nobody)
    do_import(project, herd(tmp_path / "herd", [row(0)]))
    assert ledger(project)[0]["actor"] == "unknown"
