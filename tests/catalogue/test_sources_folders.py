from __future__ import annotations

from pathlib import Path

import pytest

from resight.catalogue.sources import TEMPLATE, folders
from resight.errors import InputError
from resight.types import Record

from .drawn import write_pictures


def test_a_folder_an_individual(tmp_path: Path) -> None:
    root = write_pictures(tmp_path / "herd", "a10/1.jpg", "a2/10.JPG", "a2/9.png", "unknown/1.jpeg")
    parsed = folders.read(root)
    assert (parsed.format, parsed.source_name, parsed.images_dir) == ("folders", "herd", root)
    assert parsed.problems == []
    assert parsed.records == [
        Record(row="a2/9.png", file_name="a2/9.png", individual="a2"),
        Record(row="a2/10.JPG", file_name="a2/10.JPG", individual="a2"),
        Record(row="a10/1.jpg", file_name="a10/1.jpg", individual="a10"),
        Record(row="unknown/1.jpeg", file_name="unknown/1.jpeg"),
    ]


def test_two_levels_are_species_and_individual(tmp_path: Path) -> None:
    parsed = folders.read(write_pictures(tmp_path, "lion/Ayo/1.jpg", "zebra+head/7/1.jpg"))
    assert [(r.species, r.individual) for r in parsed.records] == [("lion", "Ayo"), ("zebra+head", "7")]
    assert "first-level folders taken for species: lion, zebra+head" in parsed.notes


def test_parts_of_a_split_are_no_species(tmp_path: Path) -> None:
    parsed = folders.read(write_pictures(tmp_path, "train/Ayo/1.jpg", "val/Ayo/2.jpg"))
    assert [(r.species, r.individual) for r in parsed.records] == [(None, "Ayo"), (None, "Ayo")]
    assert "first-level folders taken for parts of a split, not for species: train, val" in parsed.notes


def test_what_is_no_picture_is_ignored_and_counted(tmp_path: Path) -> None:
    names = ["a/1.jpg", "a/.hidden.jpg", "a/Thumbs.db", "a/1.xmp", "a/2.xmp", "README", ".git/x.jpg", "@eaDir/y.jpg"]
    root = write_pictures(tmp_path / "herd", *names)
    (root / "link").symlink_to(root / "a")
    parsed = folders.read(root)
    assert [record.file_name for record in parsed.records] == ["a/1.jpg"]
    assert sorted(parsed.notes) == [
        "files that are no pictures ignored, .xmp (2 times)",
        "files that are no pictures ignored, without suffix (once)",
        "folders that are links not followed (once)",
        "hidden files ignored (2 times)",
        "hidden folders ignored (2 times)",
    ]


def test_pictures_at_another_depth_are_problems(tmp_path: Path) -> None:
    parsed = folders.read(write_pictures(tmp_path, "a/1.jpg", "a/2.jpg", "a/more/3.jpg", "4.jpg"))
    assert [record.file_name for record in parsed.records] == ["a/1.jpg", "a/2.jpg"]
    assert [(p.row, p.field) for p in parsed.problems] == [("4.jpg", "file"), ("a/more/3.jpg", "file")]
    assert "0 folders deep where most lie 1 folder deep" in parsed.problems[0].problem


def test_a_name_that_cannot_be_stored_is_a_problem(tmp_path: Path) -> None:
    parsed = folders.read(write_pictures(tmp_path, "a/1.jpg", "a\nb/2.jpg"))
    assert [record.file_name for record in parsed.records] == ["a/1.jpg"]
    assert [(p.row, p.field) for p in parsed.problems] == [("a\\nb/2.jpg", "file"), ("a\\nb/2.jpg", "folder")]


@pytest.mark.parametrize(
    ("names", "part"),
    [([], "no pictures"), (["a/x.txt"], "no pictures"), (["1.jpg"], "1 pictures, none"), (["a/b/c/1.jpg"], "none")],
)
def test_a_folder_without_individuals_is_one_line(tmp_path: Path, names: list[str], part: str) -> None:
    root = tmp_path / "herd"
    root.mkdir()
    with pytest.raises(InputError, match="herd: ") as caught:
        folders.read(write_pictures(root, *names))
    assert part in str(caught.value)


def test_a_path_that_is_no_folder(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no such folder"):
        folders.read(tmp_path / "nowhere")


def test_the_pictures_are_where_they_are(tmp_path: Path) -> None:
    root = write_pictures(tmp_path / "herd", "a/1.jpg")
    assert folders.read(root, images=root).images_dir == root
    with pytest.raises(InputError, match="--images"):
        folders.read(root, images=tmp_path)


def test_the_template_is_an_adapter_that_works(tmp_path: Path) -> None:
    file = write_pictures(tmp_path, "1.jpg") / "herd.txt"
    file.write_bytes(b"1.jpg\tAyo\n\n2.jpg\t____\n../3.jpg\tAyo\n4.jpg\n1.jpg\tAyo\n5.jpg\tZo\xe9\n")
    parsed = TEMPLATE.read(file)
    assert parsed.source_name == "herd"
    assert parsed.records == [
        Record(row="1", file_name="1.jpg", individual="Ayo"),
        Record(row="3", file_name="2.jpg"),
    ]
    assert [(p.row, p.field) for p in parsed.problems] == [
        ("4", "file"),
        ("5", "row"),
        ("6", "file name, box and theta"),
        ("7", "individual"),
    ]
    assert parsed.notes == ["individual '____': taken as not known (once)", "blank lines skipped (once)"]
    assert TEMPLATE.recognise("1.jpg\tAyo") is not None
    assert TEMPLATE.recognise("path,name") is None


def test_the_template_on_what_is_no_list(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="cannot be read"):
        TEMPLATE.read(tmp_path / "nowhere.txt")
    (tmp_path / "empty.txt").write_bytes(b"")
    with pytest.raises(InputError, match="empty"):
        TEMPLATE.read(tmp_path / "empty.txt")
