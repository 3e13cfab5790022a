from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import select, update

from resight.catalogue import boxing, detecting, schema
from resight.catalogue.detecting import Looked
from resight.errors import InputError
from resight.project import Project
from resight.types import Box, Detection

from ..detection.drawn import add_photos, box_of, raw_project, rows
from ..made_up import encoded, noise
from .projects import do_import, herd, row, with_settings

BOX = Box(1, 2, 20, 10)
PHOTOS = {"A/1.png": encoded(noise(1)), "B/1.png": encoded(noise(2)), "B/2.png": encoded(noise(3))}


@pytest.fixture
def project(tmp_path: Path) -> Project:
    return raw_project(tmp_path, PHOTOS)


def draw(project: Project, image: str, box: Box = BOX, species: str | None = None) -> str:
    with project.database.writing() as (connection, _):
        return boxing.add_box(connection, project.settings, image, box, species)


def take_away(project: Project, annotation_id: str) -> None:
    with project.database.writing() as (connection, _):
        boxing.remove_box(connection, annotation_id)


def detected(project: Project, path: str) -> str:
    with project.database.writing() as (connection, _):
        (photo,) = (one for one in detecting.photos(connection, anew=True) if one.image_path == path)
        looked = [Looked(photo, (Detection(BOX, 0.9),))]
        detecting.write_looked(connection, project.settings, looked, detector="net")
        table = schema.annotation_table.c
        return str(connection.execute(select(table.key).where(table.image_id == photo.image_id)).scalar_one())


@pytest.mark.parametrize("image", ["B/2.png", "2.png", "cards/B/2.png", "./B/2.png", "B\\2.png", " B/2.png "])
def test_a_box_is_drawn_on_the_photo_that_is_meant(project: Project, image: str) -> None:
    key = draw(project, image, species="zebra+face")
    (drawn,) = rows(project)
    told = ("key", "file_name", "species", "source_species", "part", "detector", "confidence")
    assert [drawn[name] for name in told] == [key, "B/2.png", "zebra+face", "zebra+face", "face", "hand", None]
    assert box_of(drawn) == (1, 2, 20, 10)


def test_the_very_same_box_is_drawn_once(project: Project) -> None:
    key = draw(project, "2.png")
    assert draw(project, "2.png") == key
    assert draw(project, "2.png", Box(1, 2, 20, 11)) != key
    assert len(rows(project)) == 2


def test_the_photos_species_counts_where_none_is_given_and_names_are_merged(tmp_path: Path) -> None:
    project = raw_project(tmp_path, PHOTOS, species="panthera_leo")
    project = with_settings(project, '[[merge.species]]\ninto = "lion"\nfrom = ["panthera_leo"]')
    draw(project, "2.png")
    draw(project, "A/1.png", species="fox")
    assert [one["species"] for one in rows(project)] == ["lion", "fox"]


def test_a_name_of_several_photos_is_an_error_that_lists_them(project: Project, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"'1\.png' is the name of 2 photos: cards/A/1\.png, cards/B/1\.png; give"):
        draw(project, "1.png")
    add_photos(project, tmp_path / "more", {"1.png": encoded(noise(4))})
    assert draw(project, "1.png") == rows(project)[0]["key"]  # now it is the whole path of one
    assert rows(project)[0]["file_name"] == "1.png"


@pytest.mark.parametrize("image", ["3.png", "", "%.png", "_.png", "ng", "C/A/1.png"])
def test_a_photo_that_is_not_there_is_an_error(project: Project, image: str) -> None:
    with pytest.raises(InputError, match=r"no photo .* in the catalogue: expected a file name or a path"):
        draw(project, image)


@pytest.mark.parametrize(
    ("box", "message"),
    [
        (Box(30, 2, 20, 10), r"10% of the box \[30, 2, 20, 10\] lies inside B/2\.png of 32 x 24 pixels; expected"),
        (Box(1, 2, 0, 10), r"the box \[1, 2, 0, 10\] has no area"),
        (Box(1, 2, -3, 10), "has no area"),
        (Box(math.nan, 2, 3, 10), "has no area"),
        (Box(1, 2, math.inf, 10), "has no area"),
    ],
)
def test_a_box_must_lie_in_the_photo(project: Project, box: Box, message: str) -> None:
    with pytest.raises(InputError, match=message):
        draw(project, "2.png", box)
    assert rows(project) == []


def test_a_photo_that_cannot_be_read_has_no_size_to_draw_in(tmp_path: Path) -> None:
    project = raw_project(tmp_path, {"a.png": PHOTOS["A/1.png"]}, status="quarantined", problem="cut short")
    with pytest.raises(InputError, match=r"a\.png cannot be read \(cut short\), so that its size is not known; mend"):
        draw(project, "a.png")


def test_a_second_animal_can_be_boxed_in_a_labelled_photo(project: Project, tmp_path: Path) -> None:
    do_import(project, herd(tmp_path / "herd", [row(7)]))
    project = Project(project.folder)
    key = draw(project, "7.png", Box(30, 2, 20, 10))
    labelled, drawn = rows(project)
    assert (drawn["key"], drawn["source_id"], drawn["image_id"]) == (key, labelled["source_id"], labelled["image_id"])
    take_away(project, key)
    with pytest.raises(InputError, match=r"on 7\.png was given by its source"):
        take_away(project, labelled["key"])
    assert rows(project) == [labelled]


def test_boxes_by_hand_and_by_detectors_are_taken_away(project: Project) -> None:
    for key in (draw(project, "2.png"), detected(project, "A/1.png")):
        take_away(project, key)
        with pytest.raises(InputError, match=f"no annotation '{key}'"):
            take_away(project, key)
    assert rows(project) == []


@pytest.mark.parametrize("values", [{"viewpoint": "left"}, {"species": "zebra"}, {"quality": 1.0}])
def test_a_box_that_somebody_decided_about_stays(project: Project, values: dict[str, Any]) -> None:
    key = draw(project, "2.png")
    with project.database.writing() as (connection, _):
        connection.execute(update(schema.annotation_table).values(**values))
    with pytest.raises(InputError, match=rf"annotation {key} on B/2\.png stays: a person has decided about it"):
        take_away(project, key)
    assert len(rows(project)) == 1


def test_a_photo_boxed_by_hand_is_not_listed_as_empty(project: Project) -> None:
    with project.database.writing() as (connection, _):
        (first, *_) = detecting.photos(connection)
        detecting.write_looked(connection, project.settings, [Looked(first, (), 0.1)], detector="net")
    draw(project, "A/1.png")
    with project.database.reading() as connection:
        assert detecting.without_animals(connection) == []
        assert [one.image_path for one in detecting.not_looked_at(connection)] == ["B/1.png", "B/2.png"]
