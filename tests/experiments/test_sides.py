from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
from numpy.typing import NDArray

from resight.errors import ArtefactMismatch, InputError
from resight.experiments.sides import (
    TestSide,
    has_vectors,
    read_side,
    read_vectors,
    vectors_file,
    write_side,
    write_vectors,
)

ROWS = [("cow", "a"), ("cow", "b"), ("lion", "a")]


def made_side(species: str, names: tuple[str, ...]) -> TestSide:
    def texts(prefix: str) -> NDArray[np.str_]:
        return np.array([f"{prefix} of {name}" for name in names])

    return TestSide(
        species,
        names,
        texts("individual"),
        texts("identity"),
        texts("encounter"),
        np.array([name != "b" for name in names]),
        np.array([name == "b" for name in names]),
    )


def test_a_side_comes_back_as_it_was_written_from_wherever_the_project_lies(tmp_path: Path) -> None:
    project = tmp_path / "here"
    folder = project / "experiments" / "sides" / "k1"
    cow, lion = made_side("cow", ("a", "b")), made_side("lion", ("a",))
    chips = [project / "chips" / f"{number}.npy" for number in range(3)]
    backgrounds = [None, project / "backgrounds" / "1.npy", None]
    write_side(folder, [cow, lion], chips, backgrounds)
    (tmp_path / "there").mkdir()
    shutil.move(project, tmp_path / "there" / "moved")

    moved = tmp_path / "there" / "moved"
    found = read_side(moved / "experiments" / "sides" / "k1")

    assert list(found) == ["cow", "lion"]
    for before, after in ((cow, found["cow"].side), (lion, found["lion"].side)):
        assert after.species == before.species
        assert after.annotation_ids == before.annotation_ids
        for name in ("individuals", "identities", "encounters", "tested", "trained"):
            assert getattr(after, name).tolist() == getattr(before, name).tolist(), name
            assert getattr(after, name).dtype.kind == getattr(before, name).dtype.kind, name
    assert found["cow"].chips == (moved / "chips" / "0.npy", moved / "chips" / "1.npy")
    assert found["cow"].backgrounds == (None, moved / "backgrounds" / "1.npy")
    assert found["lion"].chips == (moved / "chips" / "2.npy",)


def test_rows_are_sorted_and_keep_their_chips(tmp_path: Path) -> None:
    write_side(tmp_path, made_side("cow", ("z", "b", "a")), [tmp_path / f"{n}.npy" for n in "zba"], [None] * 3)
    found = read_side(tmp_path)["cow"]
    assert found.side.annotation_ids == ("a", "b", "z")
    assert [chip.stem for chip in found.chips] == ["a", "b", "z"]
    assert found.side.identities.tolist() == [f"identity of {name}" for name in "abz"]
    assert found.side.tested.tolist() == [True, False, True]


def test_too_few_chips_are_refused_and_nothing_is_written(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="shorter"):
        write_side(tmp_path / "side", made_side("cow", ("a", "b")), [tmp_path / "a.npy"], [None])
    assert not (tmp_path / "side" / "side.parquet").exists()


@pytest.mark.parametrize("content", [None, b"no parquet"])
def test_a_side_that_is_missing_or_broken_is_one_line(tmp_path: Path, content: bytes | None) -> None:
    if content is not None:
        (tmp_path / "side.parquet").write_bytes(content)
    with pytest.raises(InputError, match=r"side\.parquet cannot be read .*--plan-only") as raised:
        read_side(tmp_path)
    assert "\n" not in str(raised.value)


def blocks_of(vectors: NDArray[np.float16], *lengths: int) -> Iterator[NDArray[np.float16]]:
    start = 0
    for length in lengths:
        yield vectors[start : start + length]
        start += length


def test_vectors_come_back_a_part_a_species_in_the_rows_order(tmp_path: Path) -> None:
    vectors = np.arange(12, dtype=np.float16).reshape(3, 4)
    write_vectors(vectors_file(tmp_path, "k"), ROWS, blocks_of(vectors, 2, 1), dim=4, weights_hash="w")

    found = read_vectors(tmp_path, "k")

    assert {species: part.annotation_ids for species, part in found.items()} == {"cow": ("a", "b"), "lion": ("a",)}
    assert found["cow"].vectors.tolist() == vectors[:2].tolist()
    assert found["lion"].vectors.tolist() == vectors[2:].tolist()
    assert found["cow"].vectors.dtype == np.float16
    assert np.load(tmp_path / "vectors" / "k.npy").tolist() == vectors.tolist()
    assert pq.read_table(tmp_path / "vectors" / "k.parquet").to_pydict() == {
        "species": ["cow", "cow", "lion"],
        "annotation_id": ["a", "b", "a"],
    }
    assert read_vectors(tmp_path, "k", background=True) == {}


def test_vectors_count_as_there_only_whole_of_the_same_model_and_of_the_same_rows(tmp_path: Path) -> None:
    target = vectors_file(tmp_path, "k", background=True)
    assert target.name == "k-background.npy"
    assert not has_vectors(target, ROWS, weights_hash="w")
    write_vectors(target, ROWS, blocks_of(np.ones((3, 2), np.float16), 3), dim=2, weights_hash="w")
    assert has_vectors(target, ROWS, weights_hash="w")
    assert not has_vectors(target, ROWS, weights_hash="other")
    assert not has_vectors(target, ROWS[:2], weights_hash="w")
    target.unlink()
    assert not has_vectors(target, ROWS, weights_hash="w")


@pytest.mark.parametrize("lengths", [(2,), (2, 2)])
def test_vectors_that_stop_half_way_leave_nothing(tmp_path: Path, lengths: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match=r"rows|broadcast"):
        write_vectors(
            vectors_file(tmp_path, "k"), ROWS, blocks_of(np.ones((4, 2), np.float16), *lengths), dim=2, weights_hash="w"
        )
    assert list((tmp_path / "vectors").iterdir()) == []


def test_vectors_that_are_missing_or_fit_no_rows_are_one_line(tmp_path: Path) -> None:
    with pytest.raises(ArtefactMismatch, match=r"k\.npy cannot be read \(it is missing\).*done\.json"):
        read_vectors(tmp_path, "k")
    target = vectors_file(tmp_path, "k")
    write_vectors(target, ROWS, blocks_of(np.ones((3, 2), np.float16), 3), dim=2, weights_hash="w")
    np.save(target, np.ones((2, 2), np.float16))
    with pytest.raises(ArtefactMismatch, match="2 vectors of 3 annotations"):
        read_vectors(tmp_path, "k")
