from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from resight.errors import InputError
from resight.images import cut_chip
from resight.matching.queries import (
    Asked,
    all_of_one_species,
    find_photos,
    grouped,
    make_query,
    previews,
)
from resight.types import Annotation, Box

from ..made_up import HashingModel, annotation, encoded, noise, write_photo

ANYTHING = Asked("zebra", None, None)
BOX, OTHER_BOX = Box(2, 3, 12, 10), Box(14, 5, 16, 18)


@pytest.fixture
def photo(tmp_path: Path) -> Path:
    write_photo(tmp_path, "photo.png", encoded(noise(1)))
    return tmp_path / "photo.png"


def catalogued(photo: Path, name: str = "known", **changes: Any) -> Annotation:
    digest = write_photo(photo.parent, photo.name, photo.read_bytes())
    values = {"content_hash": digest, "box": BOX, "theta_rad": 0.3, "viewpoint": "left", "individual": "Ayo"}
    return annotation(name, **{**values, "encounter": f"e-{name}", **changes})


def test_a_new_photo_is_asked_as_the_user_says(photo: Path) -> None:
    [plain] = find_photos([photo], ANYTHING, [])
    assert (plain.box, plain.theta_rad, plain.viewpoint, plain.known_as) == (None, 0.0, None, None)
    [told] = find_photos([photo], Asked("zebra", "right", BOX), [annotation("other", content_hash="0" * 64)])
    assert (told.box, told.theta_rad, told.viewpoint, told.known_as) == (BOX, 0.0, "right", None)


def test_a_known_photo_is_asked_as_the_catalogue_has_it(photo: Path, tmp_path: Path) -> None:
    known = catalogued(photo)
    (tmp_path / "renamed.png").write_bytes(photo.read_bytes())
    [found] = find_photos([tmp_path / "renamed.png"], ANYTHING, [known, annotation("other")])
    assert (found.box, found.theta_rad, found.viewpoint, found.known_as) == (BOX, 0.3, "left", known)
    query, note = make_query([found], "zebra", HashingModel(), 16)
    assert query.own_annotations == {"known"}
    assert query.own_encounters == {"e-known"}
    assert query.own_photos == {known.content_hash}
    assert query.places == ((BOX, 0.3),)
    assert query.viewpoint == "left"
    assert note is not None
    assert "In the catalogue as Ayo" in note
    chip = cut_chip(photo.read_bytes(), "x", BOX, 0.3, 16)
    assert (query.vectors[0] == HashingModel().vector_of(chip)).all()


def test_the_users_viewpoint_goes_before_the_catalogues(photo: Path) -> None:
    [found] = find_photos([photo], Asked("zebra", "front", None), [catalogued(photo)])
    assert (found.viewpoint, found.box, found.theta_rad) == ("front", BOX, 0.3)


def test_the_catalogues_box_given_by_the_user_is_the_catalogues_animal(photo: Path) -> None:
    gallery = [catalogued(photo), catalogued(photo, "beside", box=OTHER_BOX, viewpoint="right")]
    [found] = find_photos([photo], Asked("zebra", None, OTHER_BOX), gallery)
    assert (found.known_as, found.viewpoint, found.theta_rad) == (gallery[1], "right", 0.3)
    assert found.own_encounters == {"e-beside"}


def test_a_box_of_the_users_own_on_a_known_photo_still_leaves_its_encounters_out(photo: Path) -> None:
    gallery = [catalogued(photo), catalogued(photo, "beside", box=OTHER_BOX)]
    [found] = find_photos([photo], Asked("zebra", None, Box(1, 1, 20, 20)), gallery)
    assert (found.box, found.theta_rad, found.viewpoint, found.known_as) == (Box(1, 1, 20, 20), 0.0, None, None)
    query, note = make_query([found], "zebra", HashingModel(), 16)
    assert query.own_encounters == {"e-known", "e-beside"}
    assert query.own_annotations == frozenset()
    assert note is None


def test_a_photo_of_several_animals_becomes_several_queries(photo: Path) -> None:
    gallery = [catalogued(photo), catalogued(photo, "beside", box=OTHER_BOX, individual="another")]
    found = find_photos([photo], ANYTHING, gallery)
    assert [one.known_as for one in found] == gallery
    groups = grouped(found, same_animal=False)
    assert [len(group) for group in groups] == [1, 1]
    queries = [make_query(group, "zebra", HashingModel(), 16)[0] for group in groups]
    assert [query.own_encounters for query in queries] == [{"e-known"}, {"e-beside"}]
    with pytest.raises(InputError, match=r"photo\.png, where the catalogue has several animals; match it by itself"):
        make_query(grouped(found, same_animal=True)[0], "zebra", HashingModel(), 16)


def test_one_animal_that_several_sources_have_is_one_query_without_any_of_their_encounters(photo: Path) -> None:
    gallery = [catalogued(photo), catalogued(photo, "again", encounter="e-again")]
    [found] = find_photos([photo, photo], ANYTHING, gallery)[:1]
    assert found.own_encounters == {"e-known", "e-again"}
    [group] = grouped(find_photos([photo, photo], ANYTHING, gallery), same_animal=True)
    assert make_query(group, "zebra", HashingModel(), 16)[0].own_encounters == {"e-known", "e-again"}


def test_photos_of_one_animal_are_one_query(photo: Path, tmp_path: Path) -> None:
    write_photo(tmp_path, "second.png", encoded(noise(2)))
    found = find_photos([photo, tmp_path / "second.png", photo], ANYTHING, [catalogued(photo)])
    [group] = grouped(found, same_animal=True)
    query, _ = make_query(group, "zebra", HashingModel(), 16)
    assert query.vectors.shape == (3, 8)
    assert query.image == f"{photo}, {tmp_path / 'second.png'}, {photo}"
    assert query.viewpoint == "left"  # the other photo's is not known
    assert len(query.own_photos) == 2
    assert len(previews(group)) == 3


def test_two_sides_of_one_animal_are_not_one_query(photo: Path, tmp_path: Path) -> None:
    write_photo(tmp_path, "second.png", encoded(noise(2)))
    gallery = [catalogued(photo), catalogued(tmp_path / "second.png", "second", viewpoint="right")]
    paths = [photo, tmp_path / "second.png"]
    with pytest.raises(InputError, match="--same-animal was given photos from left, right; one query shows one side"):
        make_query(find_photos(paths, ANYTHING, gallery), "zebra", HashingModel(), 16)
    forced = find_photos(paths, Asked("zebra", "left", None), gallery)
    assert make_query(forced, "zebra", HashingModel(), 16)[0].viewpoint == "left"


def test_every_photo_that_cannot_be_used_is_named_at_once(photo: Path, tmp_path: Path) -> None:
    write_photo(tmp_path, "text.jpg", b"not a picture")
    write_photo(tmp_path, "empty.jpg", b"")
    paths = [tmp_path / "text.jpg", photo, tmp_path / "empty.jpg", tmp_path / "gone.jpg"]
    with pytest.raises(InputError) as caught:
        find_photos(paths, ANYTHING, [])
    for part in ("text.jpg: not a picture", "empty.jpg: the file is empty", "gone.jpg: no such file"):
        assert part in str(caught.value)
    assert "photo.png" not in str(caught.value)


@pytest.mark.parametrize(
    "box",
    [Box(32, 0, 5, 5), Box(0, 24, 5, 5), Box(-5, 0, 5, 5), Box(0, 0, 0, 5), Box(0, 0, -1, 5), Box(0, 0, 1e6, 1e6)],
)
def test_a_box_that_does_not_fit_the_photo_is_one_line(photo: Path, box: Box) -> None:
    with pytest.raises(
        InputError, match=r"^--box .* does not fit .*photo\.png, which has 32 x 24 pixels; give X,Y,W,H"
    ):
        find_photos([photo], Asked("zebra", None, box), [])


def test_a_preview_is_the_cut_out_of_the_photo(photo: Path) -> None:
    [jpeg] = previews(find_photos([photo], ANYTHING, [catalogued(photo, theta_rad=0.0)]))
    picture = Image.open(io.BytesIO(jpeg))
    assert (picture.format, picture.size) == ("JPEG", (12, 10))
    cut = np.asarray(noise(1))[3:13, 2:14].astype(float)
    assert abs(np.asarray(picture).astype(float).mean() - cut.mean()) < 6


def test_the_species_is_the_one_asked_for_or_the_only_one() -> None:
    assert all_of_one_species({"lion": "ignore", "zebra": "ignore"}, "zebra") == "zebra"
    assert all_of_one_species({"lion": "ignore"}, None) == "lion"
    with pytest.raises(InputError, match="holds lion, zebra; say which with --species"):
        all_of_one_species({"zebra": "ignore", "lion": "ignore"}, None)
    with pytest.raises(InputError, match="the catalogue is empty; import a dataset first"):
        all_of_one_species({}, None)
