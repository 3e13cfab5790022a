from __future__ import annotations

import io
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from resight.errors import InputError, UnknownName
from resight.images import cut_chip
from resight.matching.queries import (
    Asked,
    Describe,
    GroupBy,
    QueryPhoto,
    all_of_one_species,
    find_photos,
    grouped,
    make_query,
    previews,
)
from resight.settings import Only, Policy
from resight.types import Annotation, Box

from ..made_up import HashingModel, annotation, encoded, noise, write_photo

ANYTHING = Asked("zebra", None, None)
BOX, OTHER_BOX = Box(2, 3, 12, 10), Box(14, 5, 16, 18)


def hashed(model: HashingModel | None = None) -> Describe:
    """A model that takes chips of 16 pixels."""
    return lambda cut: (model or HashingModel()).embed_chips(cut(16))


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
    query, note = make_query([found], "zebra", hashed())
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
    query, note = make_query([found], "zebra", hashed())
    assert query.own_encounters == {"e-known", "e-beside"}
    assert query.own_annotations == frozenset()
    assert note is None


def test_a_photo_of_several_animals_becomes_several_queries(photo: Path) -> None:
    gallery = [catalogued(photo), catalogued(photo, "beside", box=OTHER_BOX, individual="another")]
    found = find_photos([photo], ANYTHING, gallery)
    assert [one.known_as for one in found] == gallery
    groups = grouped(found)
    assert [len(group) for group in groups] == [1, 1]
    queries = [make_query(group, "zebra", hashed())[0] for group in groups]
    assert [query.own_encounters for query in queries] == [{"e-known"}, {"e-beside"}]
    for asked in (lambda: grouped(found, by="animal"), lambda: make_query(found, "zebra", hashed())):
        with pytest.raises(
            InputError, match=r"photo\.png, where the catalogue has several animals; match it by itself"
        ):
            asked()


def test_two_animals_of_one_photo_are_not_one_even_where_they_show_two_sides(photo: Path) -> None:
    gallery = [catalogued(photo), catalogued(photo, "beside", box=OTHER_BOX, individual="another", viewpoint="right")]
    with pytest.raises(InputError, match="several animals"):
        grouped(find_photos([photo], ANYTHING, gallery), by="animal")


def test_one_animal_that_several_sources_have_is_one_query_without_any_of_their_encounters(photo: Path) -> None:
    gallery = [catalogued(photo), catalogued(photo, "again", encounter="e-again")]
    [found] = find_photos([photo, photo], ANYTHING, gallery)[:1]
    assert found.own_encounters == {"e-known", "e-again"}
    [group] = grouped(find_photos([photo, photo], ANYTHING, gallery), by="animal")
    assert make_query(group, "zebra", hashed())[0].own_encounters == {"e-known", "e-again"}


def several(folder: Path, *changes: dict[str, Any]) -> tuple[list[Path], list[Annotation]]:
    """Photos ``p0.png``, ``p1.png``, …, each in the catalogue with these values."""
    paths = [folder / f"p{place}.png" for place in range(len(changes))]
    gallery = []
    for place, (path, values) in enumerate(zip(paths, changes, strict=True)):
        write_photo(folder, path.name, encoded(noise(10 + place)))
        gallery.append(catalogued(path, f"a{place}", **values))
    return paths, gallery


def names_of(groups: list[list[QueryPhoto]]) -> list[list[str]]:
    return [[photo.path.stem for photo in group] for group in groups]


def test_photos_of_one_animal_are_one_query(photo: Path, tmp_path: Path) -> None:
    write_photo(tmp_path, "second.png", encoded(noise(2)))
    known = catalogued(photo)
    found = find_photos([photo, tmp_path / "second.png", photo], Asked("zebra", "left", None), [known])
    [group] = grouped(found, by="animal")
    model = HashingModel()
    query, note = make_query(group, "zebra", hashed(model))
    assert query.image == f"{photo}, {tmp_path / 'second.png'}, {photo}"
    assert query.viewpoint == "left"
    assert query.known_as == (known, None, known)
    assert query.places == ((BOX, 0.3), (None, 0.0), (BOX, 0.3))
    assert len(query.own_photos) == 2
    assert query.vectors.shape == (3, 8)
    for row, one in enumerate(group):  # vectors are in the order of the photos, and not merged
        chip = cut_chip(one.path.read_bytes(), "x", one.box, one.theta_rad, 16)
        assert (query.vectors[row] == model.vector_of(chip)).all()
    assert note is not None
    assert "apart" not in note
    assert len(previews(group)) == 3


def test_each_side_of_one_animal_is_a_query_that_finds_none_of_the_others(tmp_path: Path) -> None:
    paths, gallery = several(
        tmp_path, {"viewpoint": "left"}, {"viewpoint": "right"}, {"viewpoint": None}, {"viewpoint": "left"}
    )
    new = tmp_path / "new.png"
    write_photo(tmp_path, "new.png", encoded(noise(50)))
    groups = grouped(find_photos([*paths, new], ANYTHING, gallery), by="animal")
    assert names_of(groups) == [["p0", "p3"], ["p1"], ["p2", "new"]]
    made = [make_query(group, "zebra", hashed()) for group in groups]
    assert [query.viewpoint for query, _ in made] == ["left", "right", None]
    assert [query.own_annotations for query, _ in made] == [{"a0", "a3"}, {"a1"}, {"a2"}]
    assert [len(query.vectors) for query, _ in made] == [2, 1, 2]
    photos = {photo.content_hash for photo in find_photos([*paths, new], ANYTHING, [])}
    assert len(photos) == 5
    for query, note in made:
        assert query.own_photos == photos
        assert query.own_encounters == {"e-a0", "e-a1", "e-a2", "e-a3"}
        assert note is not None
        assert note.startswith(
            "The photos of this animal are seen from left, right, a viewpoint that is not known, and each viewpoint is "
            "a query of its own."
        )


def test_with_one_viewpoint_for_all_two_sides_are_one_query(tmp_path: Path) -> None:
    paths, gallery = several(tmp_path, {"viewpoint": "left"}, {"viewpoint": "right"})
    [group] = grouped(find_photos(paths, Asked("zebra", "left", None), gallery), by="animal")
    query, note = make_query(group, "zebra", hashed())
    assert (query.viewpoint, len(query.vectors)) == ("left", 2)
    assert note is not None
    assert "query of its own" not in note


@pytest.mark.parametrize(
    ("policy", "queries"),
    [("separate", 3), ("ignore", 1), (Only(("left", "right")), 3), (Only(("left", "front")), 1)],
)
@pytest.mark.parametrize("by", ["animal", "encounter"])
def test_sides_stay_apart_only_where_they_are_separate(
    tmp_path: Path, policy: Policy, queries: int, by: GroupBy
) -> None:
    paths, gallery = several(tmp_path, *({"viewpoint": view, "encounter": "day"} for view in ("left", "right", None)))
    groups = grouped(find_photos(paths, ANYTHING, gallery), by=by, policy=policy)
    assert len(groups) == queries
    made = [make_query(group, "zebra", hashed(), policy=policy)[0] for group in groups]
    assert [query.viewpoint for query in made] == ([None] if queries == 1 else ["left", "right", None])


def test_one_query_is_never_made_of_two_sides(tmp_path: Path) -> None:
    paths, gallery = several(tmp_path, {"viewpoint": "left"}, {"viewpoint": "right"}, {"viewpoint": None})
    found = find_photos(paths, ANYTHING, gallery)
    with pytest.raises(InputError, match=r"^one query shows one side, and its photos are seen from left, right: match"):
        make_query(found[:2], "zebra", hashed())
    with pytest.raises(InputError, match="seen from left, a viewpoint that is not known: match"):
        make_query([found[0], found[2]], "zebra", hashed())


def test_photos_of_one_encounter_are_one_query(tmp_path: Path) -> None:
    paths, gallery = several(
        tmp_path,
        {"encounter": "monday"},
        {"encounter": "tuesday"},
        {"encounter": "monday"},
        {"encounter": "monday", "individual": "Bo"},
        {"encounter": "monday", "viewpoint": "right"},
        {"encounter": "wednesday", "individual": None},
        {"encounter": "wednesday", "individual": None},
    )
    new = [tmp_path / "new0.png", tmp_path / "new1.png"]
    for place, path in enumerate(new):
        write_photo(tmp_path, path.name, encoded(noise(50 + place)))
    groups = grouped(find_photos([*paths, *new], ANYTHING, gallery), by="encounter")
    assert names_of(groups) == [["p0", "p2"], ["p4"], ["p1"], ["p3"], ["p5", "p6"], ["new0"], ["new1"]]
    queries, notes = zip(*(make_query(group, "zebra", hashed()) for group in groups), strict=True)
    assert queries[0].own_encounters == {"monday"}
    assert queries[0].known_as == (gallery[0], gallery[2])
    assert notes[5] == "Its encounter is not known, so it is asked by itself."
    assert notes[2].startswith("In the catalogue as Ayo")
    assert notes[0].startswith("The photos of this animal are seen from left, right, and each viewpoint")


@pytest.mark.parametrize("sign", ["a photo shows two", "two names"])
def test_in_an_encounter_of_several_animals_what_has_no_name_is_not_put_together(tmp_path: Path, sign: str) -> None:
    unnamed = {"encounter": "herd", "individual": None}
    named = [{"encounter": "herd", "individual": name} for name in ("Ayo", "Ayo", "Bo")]
    paths, gallery = several(tmp_path, unnamed, unnamed, *named[: 2 if sign == "a photo shows two" else 3])
    if sign == "a photo shows two":
        gallery.append(catalogued(paths[0], "beside", box=OTHER_BOX, **unnamed))
        expected = [["p0"], ["p0"], ["p1"], ["p2", "p3"]]
    else:
        expected = [["p0"], ["p1"], ["p2", "p3"], ["p4"]]
    groups = grouped(find_photos(paths, ANYTHING, gallery), by="encounter")
    assert names_of(groups) == expected
    for group in groups:
        shown = [(photo.content_hash, photo.box) for photo in group]
        assert len({content for content, _ in shown}) == len(shown)  # no photo gives two of its animals
    _, note = make_query(groups[0], "zebra", hashed())
    assert note is not None
    assert note.startswith("Its encounter shows several animals, so it is asked by itself.")


@pytest.mark.parametrize("by", ["photo", "animal", "encounter"])
def test_no_photo_is_lost_or_asked_twice_by_grouping(tmp_path: Path, by: GroupBy) -> None:
    views = ("left", "right", None, "front")
    paths, gallery = several(
        tmp_path,
        *({"viewpoint": views[n % 4], "encounter": f"e{n % 3}", "individual": ("Ayo", None)[n % 2]} for n in range(12)),
    )
    found = find_photos(paths, ANYTHING, gallery)
    groups = grouped(found, by=by)
    assert sorted(name for group in names_of(groups) for name in group) == sorted(path.stem for path in paths)
    assert all(len({photo.viewpoint for photo in group}) == 1 for group in groups)
    assert grouped([], by=by) == []


def test_an_unknown_way_to_group_is_refused() -> None:
    with pytest.raises(UnknownName, match="no way to group photos named 'day': there are: animal, encounter, photo"):
        grouped([], by="day")  # type: ignore[arg-type]


def test_what_is_only_proposed_is_said(photo: Path) -> None:
    [found] = find_photos([photo], ANYTHING, [replace(catalogued(photo), proposed=frozenset({"viewpoint"}))])
    _, note = make_query([found], "zebra", hashed())
    assert note == (
        "In the catalogue as Ayo: box, rotation and viewpoint, where not given, were taken from there, and it is not "
        "compared with itself. What it says of viewpoint is a proposal that nobody has accepted."
    )


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
