from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import insert, select, update

from resight.catalogue import detecting, schema, store
from resight.catalogue.detecting import Looked, RawPhoto, Written, overlap
from resight.errors import UnknownName
from resight.project import Project
from resight.types import Box, Detection

from ..detection.drawn import add_photos, box_of, images, raw_project, rows
from ..made_up import encoded, noise
from .projects import contents, do_import, herd, row, with_settings

BOX, OTHER = Box(1, 2, 20, 10), Box(5, 12, 8, 9)
NEARLY = Box(1, 2, 20, 10.5)  # overlaps BOX by 0.95


def pictures(*names: str) -> dict[str, bytes]:
    return {name: encoded(noise(number)) for number, name in enumerate(names)}


@pytest.fixture
def project(tmp_path: Path) -> Project:
    return raw_project(tmp_path, pictures("a.png", "b.png"))


def to_look_at(project: Project, **options: Any) -> list[RawPhoto]:
    with project.database.reading() as connection:
        return detecting.photos(connection, **options)


def found(*boxes: Box | None, confidence: float = 0.9, species: str | None = None) -> tuple[Detection, ...]:
    return tuple(Detection(box, confidence - n / 100, species) for n, box in enumerate(boxes))


def write(
    project: Project, *animals: Detection, name: str = "a.png", detector: str = "net", best: float | None = None,
    species: str | None = None,
) -> Written:  # fmt: skip
    """Write what was found in one photo."""
    (photo,) = (one for one in to_look_at(project, anew=True) if one.image_path == name)
    with project.database.writing() as (connection, _):
        looked = [Looked(photo, animals, best)]
        return detecting.write_looked(connection, project.settings, looked, detector=detector, species=species)


def change(project: Project, box: Box = BOX, **values: Any) -> str:
    """Change an annotation as another part of the program does."""
    table = schema.annotation_table
    with project.database.writing() as (connection, _):
        query = table.c.box_x == box.x
        connection.execute(update(table).where(query).values(**values) if values else select(1))
        return str(connection.execute(select(table.c.key).where(query)).scalar_one())


def individual(project: Project) -> int:
    with project.database.writing() as (connection, _):
        connection.execute(insert(schema.individuals).values(scope="zebra", name="Ayo"))
        return int(connection.execute(select(schema.individuals.c.id)).scalar_one())


def test_overlap_by_hand() -> None:
    assert overlap(Box(0, 0, 10, 10), Box(0, 0, 10, 10)) == 1
    assert overlap(Box(0, 0, 10, 10), Box(5, 0, 10, 10)) == pytest.approx(1 / 3)
    assert overlap(Box(0, 0, 10, 10), Box(2, 2, 5, 5)) == pytest.approx(0.25)
    assert overlap(Box(0, 0, 10, 10), Box(10, 0, 10, 10)) == 0
    assert overlap(Box(0, 0, 10, 10), Box(20, 20, 1, 1)) == 0


def test_what_was_found_becomes_annotations_of_the_photo(project: Project) -> None:
    outline = [[1, 2, 3, 4, 5, 6]]
    animals = (Detection(BOX, 0.9, "zebra+face", outline), Detection(None, 0.5))
    assert write(project, *animals, best=0.1) == Written(added=2)
    first, second = rows(project)
    told = ("file_name", "species", "source_species", "part", "detector", "confidence", "outline", "theta_rad")
    assert [first[name] for name in told] == ["a.png", "zebra+face", "zebra+face", "face", "net", 0.9, outline, 0.0]
    assert [second[name] for name in told] == ["a.png", None, None, None, "net", 0.5, None, 0.0]
    assert (box_of(first), box_of(second)) == ((1, 2, 20, 10), (None,) * 4)
    assert (first["source_key"], second["source_key"]) == ("detect:a.png@1,2,20,10", "detect:a.png@whole")
    with project.database.reading() as connection:
        (listed, nameless) = sorted(
            store.list_annotations(connection, project.settings, unnamed=True), key=lambda a: a.species is None
        )
    assert (listed.source, listed.species, listed.detector, listed.confidence) == ("cards", "zebra+face", "net", 0.9)
    assert nameless.species is None
    image = images(project)["a.png"]
    assert (image["detector"], image["detector_best"]) == ("net", None)


def test_ids_are_the_same_in_another_project(tmp_path: Path, project: Project) -> None:
    other = raw_project(tmp_path / "other", pictures("b.png", "a.png"))
    for one in (project, other):
        write(one, *found(BOX))
    assert rows(project)[0]["key"] == rows(other)[0]["key"]


@pytest.mark.parametrize(
    ("of_detector", "asked", "of_photo", "kept"),
    [
        ("deer", "boar", "fox", "deer"),
        (None, "boar", "fox", "boar"),
        (None, None, "fox", "fox"),
        (None, None, None, None),
        ("panthera_leo", None, None, "lion"),
        (None, None, "panthera_leo", "lion"),
    ],
)
def test_the_species_is_the_detectors_else_the_one_asked_for_else_the_photos(
    tmp_path: Path, of_detector: str | None, asked: str | None, of_photo: str | None, kept: str | None
) -> None:
    project = raw_project(tmp_path, pictures("a.png"), species=of_photo)
    project = with_settings(project, '[[merge.species]]\ninto = "lion"\nfrom = ["panthera_leo"]')
    write(project, *found(BOX, species=of_detector), species=asked)
    assert rows(project)[0]["species"] == kept


def test_a_photo_without_animals_is_listed_with_the_best_below_the_threshold(project: Project) -> None:
    assert write(project, best=0.15) == Written()
    with project.database.reading() as connection:
        (empty,) = detecting.without_animals(connection)
        (waiting,) = detecting.not_looked_at(connection)
    assert (empty.image_path, empty.detector, empty.detector_best) == ("a.png", "net", 0.15)
    assert (waiting.image_path, waiting.detector) == ("b.png", None)
    write(project, *found(BOX))
    with project.database.reading() as connection:
        assert detecting.without_animals(connection) == []


def test_the_most_promising_empty_photo_comes_first(tmp_path: Path) -> None:
    project = raw_project(tmp_path, pictures("a.png", "b.png", "c.png"))
    for name, best in (("a.png", 0.1), ("b.png", None), ("c.png", 0.19)):
        write(project, name=name, best=best)
    with project.database.reading() as connection:
        assert [one.image_path for one in detecting.without_animals(connection)] == ["c.png", "a.png", "b.png"]


def test_photos_are_looked_at_once_unless_anew(project: Project) -> None:
    assert [one.image_path for one in to_look_at(project)] == ["a.png", "b.png"]
    write(project, *found(BOX))
    assert [one.image_path for one in to_look_at(project)] == ["b.png"]
    assert [one.image_path for one in to_look_at(project, anew=True)] == ["a.png", "b.png"]


def test_photos_that_a_source_annotated_are_never_looked_at(project: Project, tmp_path: Path) -> None:
    do_import(project, herd(tmp_path / "labelled", [row(1)]))
    project = Project(project.folder)
    assert [one.image_path for one in to_look_at(project, anew=True)] == ["a.png", "b.png"]


def test_only_the_photos_of_a_source(project: Project, tmp_path: Path) -> None:
    add_photos(project, tmp_path / "more", {"c.png": encoded(noise(9))}, source="more")
    assert [one.image_path for one in to_look_at(project, source="more")] == ["c.png"]
    with project.database.reading() as connection:
        assert list(detecting.places(connection, source="more").values()) == [("more", "c.png")]
        assert len(detecting.places(connection)) == 3
        assert [one.source for one in detecting.not_looked_at(connection, source="more")] == ["more"]
    with pytest.raises(UnknownName, match=r"no source named 'mor': did you mean 'more'\?"):
        to_look_at(project, source="mor")


def test_places_of_a_source_hold_its_labelled_photos_too(project: Project, tmp_path: Path) -> None:
    do_import(project, herd(tmp_path / "herd", [row(1)]))
    with project.database.reading() as connection:
        assert [path for _, path in detecting.places(connection, source="herd").values()] == ["1.png"]


def test_quarantined_photos_are_tried(tmp_path: Path) -> None:
    project = raw_project(tmp_path, pictures("a.png"), status="quarantined", problem="cut short")
    (one,) = to_look_at(project)
    assert (one.status, one.problem, one.width, one.file_name) == ("quarantined", "cut short", None, "a.png")


def test_the_same_again_changes_nothing(project: Project) -> None:
    write(project, *found(BOX, OTHER, species="zebra"))
    before = contents(project, without=("state",))
    assert write(project, *found(BOX, OTHER, species="zebra")) == Written(kept=2)
    assert contents(project, without=("state",)) == before


def test_a_box_found_again_is_the_same_annotation_with_the_new_box(project: Project) -> None:
    write(project, *found(BOX))
    (before,) = rows(project)
    assert write(project, Detection(NEARLY, 0.6, "zebra", [[1]]), detector="other") == Written(kept=1)
    (after,) = rows(project)
    assert (after["key"], after["source_key"]) == (before["key"], before["source_key"])
    assert box_of(after) == (1, 2, 20, 10.5)
    told = ("confidence", "detector", "species", "source_species", "outline")
    assert [after[name] for name in told] == [0.6, "other", "zebra", "zebra", [[1]]]
    write(project, *found(NEARLY))
    (plain,) = rows(project)
    # A detector that names nothing takes no name away, nor an outline.
    assert [plain[name] for name in ("confidence", "detector", "species", "outline")] == [0.9, "net", "zebra", [[1]]]


def test_a_box_that_overlaps_less_is_another_animal(project: Project) -> None:
    write(project, *found(BOX))
    moved = Box(1, 2, 20, 11.5)
    assert overlap(BOX, moved) < 0.9
    assert write(project, *found(BOX, moved)) == Written(added=1, kept=1)
    assert write(project, *found(moved)) == Written(kept=1, removed=1)


def test_the_nearest_of_two_boxes_is_the_one_that_is_kept(project: Project) -> None:
    first, second = Box(0, 0, 20, 20), Box(0, 0, 20, 17.9)
    assert overlap(first, second) < 0.9
    write(project, *found(first, second))
    between = Box(0, 0, 20, 18.5)  # overlaps both by more than 0.9
    assert write(project, *found(between)) == Written(kept=1, removed=1)
    assert [box_of(one) for one in rows(project)] == [(0, 0, 20, 18.5)]
    assert rows(project)[0]["source_key"] == "detect:a.png@0,0,20,17.9"


def test_the_whole_photo_is_a_box_like_any_other(project: Project) -> None:
    write(project, *found(None))
    assert write(project, *found(Box(0, 0, 32, 24))) == Written(kept=1)
    assert box_of(rows(project)[0]) == (0, 0, 32, 24)
    assert write(project, *found(BOX)) == Written(added=1, removed=1)


def test_detections_of_one_animal_are_one_annotation_the_surest(project: Project) -> None:
    assert write(project, Detection(NEARLY, 0.5), Detection(BOX, 0.8), Detection(BOX, 0.7)) == Written(
        added=1, repeated=2
    )
    assert [(box_of(one), one["confidence"]) for one in rows(project)] == [((1, 2, 20, 10), 0.8)]


def test_what_is_not_found_again_goes_with_all_that_was_computed_of_it(project: Project) -> None:
    write(project, *found(BOX, OTHER))
    row_id = rows(project)[0]["id"]
    with project.database.writing() as (connection, _):
        proposed = {"field": "viewpoint", "value": "left", "confidence": 0.9, "model": "m", "at_utc": "2024"}
        connection.execute(insert(schema.proposals).values(annotation_id=row_id, **proposed))
        measured = dict.fromkeys(("sharpness", "side_px", "contrast", "cut_share"), 1.0)
        connection.execute(
            insert(schema.measures).values(annotation_id=row_id, measured_key="k", phash="0" * 16, **measured)
        )
        compared = {"model": "m", "compared": 1, "of": 2, "at_utc": "2024"}
        connection.execute(insert(schema.comparisons).values(annotation_id=row_id, **compared))
    assert write(project, *found(OTHER)) == Written(kept=1, removed=1)
    assert [box_of(one) for one in rows(project)] == [(5, 12, 8, 9)]
    tables = contents(project)
    assert (tables["proposals"], tables["measures"], tables["comparisons"]) == ([], [], [])


def in_split(project: Project) -> None:
    key = change(project)
    member = {"species": "z", "individual": "Ayo", "identity": "Ayo", "encounter": "e", "subset": "train"}
    with project.database.writing() as (connection, _):
        frozen = {"protocol": "paper", "seed": 0, "catalogue_revision": 1, "made_at_utc": "2024"}
        connection.execute(insert(schema.splits).values(name="s", policies={}, report={}, **frozen))
        split_id = connection.execute(select(schema.splits.c.id)).scalar_one()
        connection.execute(insert(schema.split_members).values(split_id=split_id, annotation_key=key, **member))


def in_ledger(project: Project) -> None:
    key = change(project)
    with project.database.writing() as (connection, revision):
        decided = {"revision": revision, "at_utc": "2024", "actor": "a", "action": "accept", "annotation_key": key}
        connection.execute(insert(schema.ledger).values(**decided))


def of_known(project: Project) -> None:
    change(project, individual_id=individual(project))


@pytest.mark.parametrize(
    "depend",
    [
        of_known,
        in_split,
        in_ledger,
        lambda project: change(project, species="zebra"),
        lambda project: change(project, viewpoint="left"),
        lambda project: change(project, quality=3.0),
        lambda project: change(project, theta_rad=0.1),
    ],
    ids=["individual", "split", "ledger", "species", "viewpoint", "quality", "theta"],
)
def test_what_something_depends_on_stays_as_it_is(project: Project, depend: Any) -> None:
    write(project, *found(BOX))
    depend(project)
    before = rows(project)
    assert write(project, *found(OTHER), detector="other") == Written(added=1, not_found_again=1)
    assert rows(project)[0] == before[0]
    assert write(project, *found(NEARLY, OTHER, species="fox"), detector="other") == Written(kept=2)
    assert rows(project)[0] == before[0]


@pytest.mark.parametrize("source_key", ["hand:a.png@1,2,20,10", "file:a.png@1,2,20,10@0", "id:7"])
def test_what_a_source_gave_or_a_person_drew_is_never_touched(project: Project, source_key: str) -> None:
    write(project, *found(BOX))
    (photo, _) = to_look_at(project, anew=True)
    change(project, source_key=source_key)
    before = rows(project)
    for animals, written in (((), Written()), (found(NEARLY), Written(kept=1))):
        with project.database.writing() as (connection, _):
            looked = [Looked(photo, animals)]
            assert detecting.write_looked(connection, project.settings, looked, detector="other") == written
        assert rows(project) == before


def test_photos_of_one_name_and_boxes_that_come_back_have_keys_of_their_own(project: Project, tmp_path: Path) -> None:
    add_photos(project, tmp_path / "second card", {"a.png": encoded(noise(7))})
    with project.database.writing() as (connection, _):
        looked = [Looked(photo, found(BOX)) for photo in detecting.photos(connection) if photo.image_path == "a.png"]
        assert detecting.write_looked(connection, project.settings, looked, detector="net") == Written(added=2)
    assert [one["source_key"] for one in rows(project)] == ["detect:a.png@1,2,20,10", "detect:a.png@1,2,20,10#2"]
    assert len({one["key"] for one in rows(project)}) == 2


def test_a_box_that_moves_step_by_step_leaves_its_first_place_to_another(project: Project) -> None:
    write(project, *found(BOX))
    write(project, *found(NEARLY))
    further = Box(1, 2, 20, 11.5)
    write(project, *found(further))
    assert write(project, *found(further, BOX)) == Written(added=1, kept=1)
    assert [one["source_key"] for one in rows(project)] == ["detect:a.png@1,2,20,10", "detect:a.png@1,2,20,10#2"]


def test_many_photos_are_written_at_once(tmp_path: Path) -> None:
    content = encoded(noise(1))
    project = raw_project(tmp_path, {f"{number}.png": content for number in range(600)})
    photos = to_look_at(project)
    with project.database.writing() as (connection, _):
        looked = [Looked(photo, found(BOX)) for photo in photos]
        assert detecting.write_looked(connection, project.settings, looked, detector="net") == Written(added=600)
    with project.database.writing() as (connection, _):
        looked = [Looked(photo, ()) for photo in photos]
        assert detecting.write_looked(connection, project.settings, looked, detector="net") == Written(removed=600)
    assert rows(project) == []
