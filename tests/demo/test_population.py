from __future__ import annotations

import csv
import json
from pathlib import Path

import pytest
from PIL import Image

from resight.demo.population import Population, draw_population
from resight.errors import InputError


def contents(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


@pytest.fixture(scope="module")
def drawn(tmp_path_factory: pytest.TempPathFactory) -> Population:
    return draw_population(tmp_path_factory.mktemp("demo") / "drawn", seed=4, individuals=2, encounters=2)


def test_the_same_seed_gives_the_same_bytes_with_any_number_of_workers(drawn: Population, tmp_path: Path) -> None:
    again = draw_population(tmp_path / "again", seed=4, individuals=2, encounters=2, workers=2)
    assert contents(again.folder) == contents(drawn.folder)


def test_another_seed_gives_other_photos(drawn: Population, tmp_path: Path) -> None:
    other = draw_population(tmp_path / "other", seed=5, individuals=1, encounters=1, photos_per_encounter=1)
    assert not set(contents(other.folder).values()) & set(contents(drawn.folder).values())


def test_the_counts_are_those_of_the_plan(drawn: Population) -> None:
    striped, spotted, finned = drawn.species
    for species in (striped, spotted):
        assert species.policy == "separate"
        assert (species.annotations, species.individuals, species.encounters) == (16, 2, 8)
        assert species.identities == 4
    assert finned.policy == "ignore"
    assert (finned.annotations, finned.individuals, finned.identities, finned.encounters) == (16, 4, 4, 8)
    assert [species.format for species in drawn.species] == ["coco", "wildlife-datasets", "csv"]


def test_the_coco_file_is_wild_me_s(drawn: Population) -> None:
    striped = drawn.species[0]
    data = json.loads(striped.path.read_text(encoding="utf-8"))
    assert len(data["images"]) == len(data["annotations"]) == striped.annotations
    for image, annotation in zip(data["images"], data["annotations"], strict=True):
        assert annotation["image_id"] == image["id"]
        assert annotation["image_uuid"] == image["uuid"]
        assert image["date_captured"] == "NA"
        with Image.open(striped.images / image["file_name"]) as photo:
            assert photo.size == (image["width"], image["height"])
        x, y, w, h = annotation["bbox"]
        assert 0 <= x < x + w <= image["width"]
        assert 0 <= y < y + h <= image["height"]
        assert annotation["viewpoint"] in ("left", "right")
        assert annotation["encounter_id"].startswith(annotation["name"])
    assert data["categories"][0]["name"] == striped.species
    assert len({annotation["encounter_id"] for annotation in data["annotations"]}) == striped.encounters


def test_the_tables_have_their_formats_columns(drawn: Population) -> None:
    _, spotted, finned = drawn.species
    with spotted.path.open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    assert list(rows[0]) == ["image_id", "identity", "path", "bbox", "orientation", "species", "date"]
    for row in rows:
        assert (spotted.images / row["path"]).is_file()
        assert f"/{row['identity']}/" in row["path"]
        assert len(json.loads(row["bbox"])) == 4
    with finned.path.open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    assert list(rows[0])[:10] == ["theta", "viewpoint", "name", "file_name", "species", "file_path", "x", "y", "w", "h"]
    assert all((finned.images / row["file_path"]).is_file() for row in rows)
    # The day stands for the encounter.
    assert len({(row["name"], row["date"]) for row in rows}) == finned.encounters


def test_the_query_is_a_known_individual_in_no_dataset(drawn: Population) -> None:
    for species in drawn.species:
        query = species.query
        assert query.path.is_file()
        assert query.individual in species.path.read_text(encoding="utf-8")
        photos = {path.read_bytes() for path in species.images.rglob("*.jpg")}
        assert len(photos) == species.annotations
        assert query.path.read_bytes() not in photos
        with Image.open(query.path) as photo:
            assert query.box.x + query.box.w <= photo.width
            assert query.box.y + query.box.h <= photo.height


def test_without_animals_only_the_photos_differ(drawn: Population, tmp_path: Path) -> None:
    empty = draw_population(tmp_path / "empty", seed=4, individuals=2, encounters=2, animals=False)
    with_animals, without = contents(drawn.folder), contents(empty.folder)
    assert with_animals.keys() == without.keys()
    for name in with_animals:
        assert (with_animals[name] == without[name]) == (not name.endswith(".jpg")), name


@pytest.mark.parametrize("name", ["individuals", "encounters", "photos_per_encounter", "workers"])
def test_a_count_below_one_is_refused(name: str, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=f"{name} is 0"):
        draw_population(tmp_path / "x", **{name: 0})  # type: ignore[arg-type]
    assert not (tmp_path / "x").exists()


def test_a_negative_seed_and_a_full_folder_are_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="seed is -1"):
        draw_population(tmp_path / "x", seed=-1)
    (tmp_path / "mine.txt").write_text("keep", encoding="utf-8")
    with pytest.raises(InputError, match="not an empty folder"):
        draw_population(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["mine.txt"]
