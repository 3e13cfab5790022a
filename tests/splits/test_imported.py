from __future__ import annotations

from pathlib import Path

import pytest

from resight.errors import InputError
from resight.splits import make_split, read_split
from resight.splits.imported import NOT_NAMED

from .drawn import annotation, of_subset, population


def table(folder: Path, rows, header: str = "annotation_id,subset") -> Path:
    file = folder / "split.csv"
    file.write_text("\n".join([header, *(",".join(map(str, row)) for row in rows)]) + "\n", encoding="utf-8")
    return file


@pytest.mark.parametrize("header", ["annotation_id,subset", "source,file_name,subset"])
def test_a_drawn_split_comes_back_as_it_was(tmp_path: Path, header: str) -> None:
    annotations = population(10, 8) + population(6, 6, species="lion", first_image=500)
    drawn = make_split(annotations, name="drawn", seed=0)
    by_id = {one.annotation_id: one for one in annotations}
    rows = [
        (m.annotation_id, m.subset) if header.startswith("annotation") else
        (by_id[m.annotation_id].source, by_id[m.annotation_id].file_name, m.subset)
        for m in reversed(drawn.members)
    ]  # fmt: skip
    split = read_split(annotations, table(tmp_path, rows, header), name="again", seed=7)
    assert split.members == drawn.members
    assert split.unused == drawn.unused
    assert (split.name, split.protocol, split.seed, split.filters) == ("again", "imported", 7, ())
    assert split.warnings == ()
    for mine, theirs in zip(split.species, drawn.species, strict=True):
        assert mine.train_share == theirs.train_annotations / (
            theirs.train_annotations + theirs.test_annotations + theirs.set_aside_annotations
        )
        assert (mine.train_individuals, mine.test_individuals, mine.test_individuals_seen, mine.unused) == (
            theirs.train_individuals, theirs.test_individuals, theirs.test_individuals_seen, theirs.unused
        )  # fmt: skip


def test_what_the_table_leaves_out_and_what_cannot_be_used_is_counted(tmp_path: Path) -> None:
    annotations = population(2, 4) + population(2, 2, species="lion", first_image=500) + [
        annotation("unknown", None, "u", image_id=900, content_hash="u"),
        annotation("policy", "000", "p", image_id=901, allowed=False, content_hash="p"),
    ]  # fmt: skip
    rows = [(one.annotation_id, " TEST " if one.individual == "000" else "train") for one in annotations[:7]]
    rows += [(annotations[7].annotation_id, ""), ("policy", "test"), ("unknown", "")]
    split = read_split(annotations, table(tmp_path, rows), name="x")
    (counts,) = split.species
    assert (counts.train_annotations, counts.test_annotations, counts.unused) == (3, 4, 1)
    assert split.unused == (annotations[7].annotation_id,)
    assert split.left_out == {NOT_NAMED: 4, "no individual": 1, "viewpoint policy": 1}
    assert split.warnings == ("1 annotations that the table names are left out: viewpoint policy",)
    assert len(split.members) + len(split.unused) + sum(split.left_out.values()) == len(annotations)


def test_the_users_leaks_are_kept_and_counted(tmp_path: Path) -> None:
    annotations = [
        *population(3, 4),
        annotation("same photo", "000", "other", image_id=0, content_hash="content 0"),
        annotation("same encounter", "000", "zebra 0 1", image_id=901, content_hash="c"),
        annotation("lion", "x", "zebra 0 1", image_id=902, content_hash="d", species="lion"),
    ]
    # 000 is trained on by its four encounters; 001 is tested with four, 002 with one of them.
    rows = [(one.annotation_id, "train" if one.individual == "000" else "test") for one in annotations[:9]] + [
        ("same photo", "test"),
        ("same encounter", "test"),
        ("lion", "test"),
    ]
    split = read_split(annotations, table(tmp_path, rows), name="x")
    assert {m.annotation_id for m in of_subset(split, "test")} >= {"same photo", "same encounter", "lion"}
    assert split.warnings == (
        "lion: no annotation in train",
        "lion: 1 of 1 test identities have one encounter in test, so their 1 annotations have nothing to match",
        "zebra: 1 of 3 test identities have one encounter in test, so their 1 annotations have nothing to match",
        "zebra: 2 of 7 test annotations leak: the photo of 1 and the encounter of 1 are in training too, which "
        "flatters any score",
        "1 test annotations share their photo or encounter with training of another species",
    )


@pytest.mark.parametrize(
    ("header", "rows", "says"),
    [
        ("annotation_id,subset", [("nobody", "train")], "line 2: annotation_id 'nobody': not in the catalogue"),
        ("annotation_id,subset", [("zebra000000", "val")], "training takes its own validation from train"),
        ("annotation_id,subset", [("zebra000000", "Valid")], "training takes its own validation from train"),
        ("annotation_id,subset", [("zebra000000", "tset")], "subset 'tset': expected train, test, set_aside"),
        (
            "annotation_id,subset",
            [("zebra000000", "train"), ("zebra000001", "test"), ("zebra000000", "train")],
            "line 4: annotation 'zebra000000': was in line 2 already",
        ),
        ("annotation_id,subset", [("zebra000000", "")], "no row says train, test or set_aside"),
        ("annotation_id,subset", [], "no row says train, test or set_aside"),
        ("annotation_id,subset", [("zebra000000", "train", "x")], "too many cells"),
        ("id,subset", [("zebra000000", "train")], "expected the columns annotation_id (or source and file_name)"),
        ("file_name,subset", [("0.jpg", "train")], "expected the columns annotation_id (or source and file_name)"),
        ("annotation_id,side", [("zebra000000", "train")], "found annotation_id, side"),
        ("annotation_id,subset,subset", [("zebra000000", "train", "test")], "two columns are named 'subset'"),
        ("source,file_name,subset", [("made up", "77.jpg", "train")], "file '77.jpg' of source 'made up': not in the"),
        ("source,file_name,subset", [("made up", "0.jpg", "train")], "has 2 annotations; tell them by annotation_id"),
    ],
)  # fmt: skip
def test_a_wrong_table_is_refused_in_one_line(tmp_path: Path, header: str, rows, says: str) -> None:
    annotations = [*population(2, 4), annotation("second on it", "001", "e", image_id=0)]
    with pytest.raises(InputError) as refused:
        read_split(annotations, table(tmp_path, rows, header), name="x")
    assert says in str(refused.value)
    assert "\n" not in str(refused.value)


def test_all_problems_are_counted_and_the_first_are_shown(tmp_path: Path) -> None:
    rows = [(f"nobody {n}", "train") for n in range(12)]
    with pytest.raises(InputError, match=r"12 problems.*line 6: .*; and 7 more$"):
        read_split(population(2, 4), table(tmp_path, rows), name="x")
    with pytest.raises(InputError, match=r"none\.csv"):
        read_split(population(2, 4), tmp_path / "none.csv", name="x")
