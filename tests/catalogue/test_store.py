from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import insert, select, update

from resight.catalogue import schema, store
from resight.catalogue.photos import FoundImage
from resight.errors import InputError, UnknownName
from resight.images import ImageFacts
from resight.project import Project
from resight.settings import Only
from resight.types import Annotation, Box

from .projects import HEIGHT, WIDTH, annotations, do_import, draw_photo, herd, row, with_settings


@pytest.fixture
def project(tmp_path: Path) -> Project:
    return Project.init(tmp_path / "project")


def image_rows(project: Project) -> dict[int, Any]:
    with project.database.reading() as connection:
        return {found.id: found for found in connection.execute(select(schema.images))}


# Annotations as they are read


def test_an_annotation_as_it_is_read(project: Project, tmp_path: Path) -> None:
    path = herd(tmp_path / "herd", [row(0, species="zebra+face", theta=0.25)])
    do_import(project, path)
    (found,) = annotations(project)
    photo = (tmp_path / "herd" / "0.png").stat()
    assert found.box == Box(1, 2, 30, 20)
    assert (found.theta_rad, found.part, found.viewpoint) == (0.25, "face", "left")
    assert (found.image_width, found.image_height, found.image_status) == (WIDTH, HEIGHT, "ok")
    assert (found.image_root, found.image_path, found.file_name) == ("herd", "0.png", "0.png")
    assert (found.image_bytes, found.taken_at) == (photo.st_size, "2024-05-01")
    assert (found.individual, found.identity) == ("z0", "z0|left")
    assert found.content_hash is not None


def test_an_encounter_is_the_source_s_else_individual_and_day_else_its_own(project: Project, tmp_path: Path) -> None:
    rows = [
        row(0, encounter="E1", date="2024-05-01"),
        row(1, encounter="", individual="A", date="2024-05-01T06:00:00"),
        row(2, encounter="", individual="A", date="2024-05-01T18:00:00"),
        row(3, encounter="", individual="A", date="2024-05-02"),
        row(4, encounter="", individual="", date="2024-05-01"),
        row(5, encounter="", individual="A", date=""),
        row(6, encounter="E1", individual="", date=""),
    ]
    report = do_import(project, herd(tmp_path / "herd", rows))
    found = annotations(project)
    encounters = [a.encounter for a in found]
    assert encounters[0] == encounters[6]
    assert encounters[1] == encounters[2]
    assert len(set(encounters)) == 5
    assert [a.encounter_known for a in found] == [True, True, True, True, False, False, True]
    assert [encounters[n] == found[n].annotation_id for n in (4, 5)] == [True, True]
    assert (report.encounters, report.encounters_unknown) == (5, 2)


def test_one_encounter_name_in_two_sources_is_two_encounters(project: Project, tmp_path: Path) -> None:
    for name in ("east", "west"):
        do_import(project, herd(tmp_path / name, [row(0, encounter="E1")], f"{name}.csv"))
    first, second = annotations(project)
    assert first.encounter != second.encounter


def test_policies_are_the_settings_else_by_the_viewpoints(project: Project, tmp_path: Path) -> None:
    rows = [
        row(0, species="zebra"),
        row(1, species="lion", viewpoint="front"),
        row(2, species="cow", viewpoint="right"),
        row(3, species="newt", viewpoint="up"),
        row(4, species="newt", viewpoint="down"),
    ]
    project = with_settings(project, 'cow = "ignore"\nnewt = { only = ["up"] }', under="viewpoints.policy")
    report = do_import(project, herd(tmp_path / "herd", rows))
    with project.database.reading() as connection:
        assert store.policies(connection, project.settings) == {
            "cow": "ignore", "lion": "ignore", "newt": Only(("up",)), "zebra": "separate",
        }  # fmt: skip
    assert report.policies == {"cow": "ignore", "lion": "ignore", "newt": "only up", "zebra": "separate"}
    assert [(a.identity, a.allowed) for a in annotations(project)] == [
        ("z0|left", True), ("z1", True), ("z2", True), ("z3", True), ("z4", False),
    ]  # fmt: skip


def test_only_the_species_asked_for_and_no_unknown_one(project: Project, tmp_path: Path) -> None:
    do_import(project, herd(tmp_path / "herd", [row(0), row(1, species="lion")]))
    with project.database.reading() as connection:
        found = store.list_annotations(connection, project.settings, species=["lion"])
        assert [a.species for a in found] == ["lion"]
        with pytest.raises(UnknownName, match="did you mean 'zebra'"):
            store.list_annotations(connection, project.settings, species=["zebras"])


def test_annotations_come_in_the_order_of_their_ids(project: Project, tmp_path: Path) -> None:
    do_import(project, herd(tmp_path / "herd", [row(n) for n in range(20)]))
    with project.database.reading() as connection:
        ids = [a.annotation_id for a in store.list_annotations(connection, project.settings)]
    assert ids == sorted(ids)


# What is learned of images


def learned(
    image: int, content: str, *, bytes_: int = 1, moved_to: tuple[str, str] | None = None, taken_at: str | None = None
) -> FoundImage:
    return FoundImage(image, bytes_, 7, ImageFacts(content, 3, 4, taken_at, None, None), moved_to)


def test_a_date_in_the_photo_fills_a_gap_and_replaces_nothing(project: Project, tmp_path: Path) -> None:
    rows = [row(0, date="2024-01-02"), row(1, date="")]
    do_import(project, herd(tmp_path / "herd", rows), verify_images=False)
    first, second = image_rows(project)
    with project.database.writing(raises_revision=False) as (connection, _):
        store.update_images(
            connection, [learned(image, "hash", taken_at="2023-03-04T05:06:07") for image in (first, second)]
        )
    found = image_rows(project)
    assert (found[first].taken_at, found[second].taken_at) == ("2024-01-02", "2023-03-04T05:06:07")


def test_what_is_learned_of_an_image_is_kept(project: Project, tmp_path: Path) -> None:
    path = herd(tmp_path / "herd", [row(0), row(1)])
    do_import(project, path, verify_images=False)
    (first, second) = image_rows(project)
    with project.database.writing(raises_revision=False) as (connection, _):
        store.quarantine_images(connection, {first: "torn", second: "torn"})
        store.update_images(
            connection,
            [learned(first, "hash", bytes_=10), learned(second, "hush", bytes_=11, moved_to=("other", "x/y.png"))],
        )
    found = image_rows(project)
    assert (found[first].content_hash, found[first].byte_size) == ("hash", 10)
    assert (found[first].width, found[first].height) == (3, 4)
    assert (found[first].status, found[first].problem) == ("ok", None)
    assert (found[first].root, found[first].path) == ("herd", "0.png")
    assert (found[second].root, found[second].path) == ("other", "x/y.png")


def test_copies_of_one_photo_do_not_fight_for_the_file_that_is_left(project: Project, tmp_path: Path) -> None:
    rows = [row(0), row(1), row(2)]
    do_import(project, herd(tmp_path / "herd", rows))
    first, second, third = image_rows(project)
    with project.database.writing() as (connection, _):
        store.update_images(
            connection,
            [
                learned(first, "h", moved_to=("herd", "2.png")),  # the third image's own place
                learned(second, "h", moved_to=("herd", "new.png")),
                learned(third, "h", moved_to=("herd", "new.png")),
            ],
        )
    assert [found.path for found in image_rows(project).values()] == ["0.png", "new.png", "2.png"]


def test_a_quarantined_image_says_why(project: Project, tmp_path: Path) -> None:
    do_import(project, herd(tmp_path / "herd", [row(0)]))
    (image,) = image_rows(project)
    with project.database.writing() as (connection, _):
        store.quarantine_images(connection, {})
        store.quarantine_images(connection, {image: "cut short"})
    assert [(i.status, i.problem) for i in image_rows(project).values()] == [("quarantined", "cut short")]
    assert annotations(project)[0].image_status == "quarantined"
    draw_photo(tmp_path / "herd" / "0.png", kind="mended")
    assert do_import(project, tmp_path / "herd" / "herd.csv").quarantined == 0
    assert annotations(project)[0].image_status == "ok"


# Splits


@dataclass(frozen=True)
class Member:
    annotation_id: str
    species: str
    individual: str
    identity: str
    encounter: str
    subset: str


MEMBERS = [
    Member("b", "zebra", "A", "A|left", "e1", "train"),
    Member("a", "lion", "B", "B", "e2", "test"),
    Member("c", "lion", "C", "C", "e3", "set_aside"),
]


def add_split(project: Project, name: str) -> None:
    with project.database.writing() as (connection, revision):
        store.add_split(
            connection, name=name, protocol="paper", seed=7, catalogue_revision=revision,
            policy_of={"zebra": "separate", "lion": Only(("left",))}, members=MEMBERS, report={"filters": [1, 2]},
        )  # fmt: skip


def test_a_split_comes_back_as_it_was_frozen(project: Project) -> None:
    add_split(project, "first")
    with project.database.reading() as connection:
        found = store.load_split(connection, "first")
        policies = connection.execute(select(schema.splits.c.policies)).scalar_one()
    assert (found.name, found.protocol, found.seed, found.catalogue_revision) == ("first", "paper", 7, 1)
    assert found.subset == {"a": "test", "b": "train", "c": "set_aside"}
    assert found.identity == {"a": "B", "b": "A|left", "c": "C"}
    assert found.encounter == {"a": "e2", "b": "e1", "c": "e3"}
    assert found.species == {"a": "lion", "b": "zebra", "c": "lion"}
    assert found.report == {"filters": [1, 2]}
    assert policies == {"zebra": "separate", "lion": "only left"}


def test_a_split_is_never_changed_and_an_unknown_one_names_the_others(project: Project) -> None:
    add_split(project, "first")
    with pytest.raises(InputError, match="'first' is frozen already"):
        add_split(project, "first")
    add_split(project, "second")
    with project.database.reading() as connection:
        assert [entry["name"] for entry in store.split_names(connection)] == ["first", "second"]
        with pytest.raises(UnknownName, match=r"did you mean 'second'.*resight split secund"):
            store.load_split(connection, "secund")


# What is only proposed, and what quality rules catch


def propose(project: Project, annotation: Annotation, **values: str) -> None:
    with project.database.writing() as (connection, _):
        table = schema.annotation_table
        row_id = connection.execute(select(table.c.id).where(table.c.key == annotation.annotation_id)).scalar_one()
        connection.execute(
            insert(schema.proposals),
            [
                {
                    "annotation_id": row_id,
                    "field": field,
                    "value": value,
                    "confidence": 0.9,
                    "model": "m",
                    "at_utc": "t",
                }
                for field, value in values.items()
            ],
        )


def unnamed(project: Project) -> Annotation:
    """The first annotation as a detector leaves it: without species and viewpoint."""
    table = schema.annotation_table
    first = annotations(project)[0]
    with project.database.writing() as (connection, _):
        values = {"species": None, "part": None, "viewpoint": None, "individual_id": None}
        connection.execute(update(table).where(table.c.key == first.annotation_id).values(**values))
    return first


def everything(project: Project) -> dict[str, Annotation]:
    with project.database.reading() as connection:
        return {a.annotation_id: a for a in store.list_annotations(connection, project.settings, unnamed=True)}


def test_an_animal_without_a_species_is_given_only_where_it_is_asked_for(project: Project, tmp_path: Path) -> None:
    do_import(project, herd(tmp_path / "herd", [row(0), row(1)]))
    first = unnamed(project)
    assert [a.annotation_id for a in annotations(project)] == [
        a for a in everything(project) if a != first.annotation_id
    ]
    raw = everything(project)[first.annotation_id]
    assert (raw.species, raw.part, raw.viewpoint, raw.proposed) == (None, None, None, frozenset())
    with pytest.raises(ValueError, match="has no species"):
        _ = raw.known_species


def test_proposed_values_hold_where_nothing_is_stated_and_are_told(project: Project, tmp_path: Path) -> None:
    do_import(project, herd(tmp_path / "herd", [row(0), row(1, viewpoint=None), row(2)]))
    first = unnamed(project)
    propose(project, first, species="lion", part="face", viewpoint="right", quality="2")
    second, third = annotations(project)[1:]
    propose(project, second, viewpoint="left", part="whole")
    propose(project, third, viewpoint="right", species="lion")  # it has both already
    found = everything(project)
    lion = found[first.annotation_id]
    assert (lion.species, lion.part, lion.viewpoint, lion.quality) == ("lion+face", "face", "right", 2.0)
    assert lion.proposed == {"species", "part", "viewpoint", "quality"}
    seen = [(found[a.annotation_id].species, found[a.annotation_id].viewpoint) for a in (second, third)]
    assert seen == [("zebra", "left"), ("zebra", "left")]
    assert found[second.annotation_id].proposed == {"viewpoint"}
    assert found[second.annotation_id].identity == "z1|left"
    assert found[third.annotation_id].proposed == frozenset()
    with project.database.reading() as connection:
        assert store.policies(connection, project.settings) == {"lion+face": "separate", "zebra": "separate"}
        assert len(store.list_annotations(connection, project.settings, species=["lion+face"])) == 1


def test_proposed_values_are_no_labels(project: Project, tmp_path: Path) -> None:
    rows = [row(number, individual=f"z{number // 4}", viewpoint=None) for number in range(24)]
    do_import(project, herd(tmp_path / "herd", rows))
    propose(project, annotations(project)[0], viewpoint="left")
    drawn = project.split("s", check_duplicates=False)
    assert drawn.left_out == {"viewpoint only proposed": 1}


def test_a_quality_rule_names_itself_and_can_be_taken_back(project: Project, tmp_path: Path) -> None:
    do_import(project, herd(tmp_path / "herd", [row(0, w=30, h=20), row(1, w=30, h=20)]))
    first, _ = annotations(project)
    table = schema.annotation_table
    with project.database.writing() as (connection, _):
        row_id = connection.execute(select(table.c.id).where(table.c.key == first.annotation_id)).scalar_one()
        numbers = {"sharpness": 3.0, "side_px": 20.0, "contrast": 9.0, "cut_share": 0.0}
        connection.execute(
            insert(schema.measures).values(annotation_id=row_id, measured_key="k", phash="0" * 16, **numbers)
        )
    assert [a.filtered for a in annotations(project)] == [None, None]
    strict = with_settings(project, "min_sharpness = 3.5", under="quality")
    assert [a.filtered for a in annotations(strict)] == ["min_sharpness 3.5", None]
    drawn = strict.split("s")  # the second, which nobody has measured, is caught by no rule
    assert drawn.left_out == {"quality rule min_sharpness 3.5": 1}
