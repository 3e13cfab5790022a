from __future__ import annotations

import logging
import shutil
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from threading import Barrier, Event, current_thread
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest

from resight.artefacts import Passport
from resight.chips import ChipSet, chip_path, write_chip
from resight.embedding import EmbedOutcome, ahead, embed, load, passport_for
from resight.errors import ArtefactMismatch
from resight.models.config import EmbedderConfig

from .made_up import HashingModel, passport

NAMES = tuple(f"a{number:02}" for number in range(10))


def chips_of(folder: Path, names: tuple[str, ...] = NAMES, version: str = "v1") -> ChipSet:
    """A small chip for each name; another ``version`` is another content under another key."""
    keys = {name: f"{version}-{name}" for name in names}
    for seed, (name, key) in enumerate(keys.items()):
        chip = np.random.default_rng([seed, *key.encode()]).integers(0, 256, (16, 16, 3), dtype=np.uint8)
        target = chip_path(folder / "chips", key)
        if not target.is_file():
            write_chip(target, chip)
        assert name in key
    return ChipSet(folder / "chips", keys, 0, (), ())


def run(model: HashingModel, chips: ChipSet | Iterable[ChipSet], folder: Path, **options: object) -> EmbedOutcome:
    weights = str(options.pop("weights", "aaaa"))
    return embed(model, passport(weights), chips, folder, name="m", batch=3, **options)  # type: ignore[arg-type]


def expected(chips: ChipSet, names: tuple[str, ...] = NAMES) -> np.ndarray:
    return HashingModel().embed_chips(chips.load(names))


def beside(folder: Path) -> list[str]:
    """What is in the folder of all models, but for the locks."""
    return [path.name for path in folder.parent.iterdir() if path.suffix != ".lock"]


def test_the_files_are_what_others_read(tmp_path: Path) -> None:
    chips = chips_of(tmp_path)
    model, folder = HashingModel(), tmp_path / "embeddings" / "m"
    outcome = run(model, chips, folder)
    assert (outcome.embedded, outcome.reused, model.batches) == (10, 0, [3, 3, 3, 1])
    assert outcome.images_per_second is not None
    assert sorted(path.name for path in folder.iterdir()) == ["annotations.parquet", "passport.json", "vectors.npy"]
    assert beside(folder) == ["m"]
    vectors = np.load(folder / "vectors.npy")
    assert (vectors.dtype, vectors.shape) == (np.float16, (10, 8))
    assert pq.read_table(folder / "annotations.parquet")["annotation_id"].to_pylist() == sorted(NAMES)
    assert (vectors == expected(chips)).all()
    assert Passport.read(folder / "passport.json").decides == passport().decides


def test_rows_are_in_the_order_of_the_ids_whatever_the_order_of_the_chips(tmp_path: Path) -> None:
    names = ("b", "a", "c", "B", "10", "9")
    chips = chips_of(tmp_path, names)
    found = run(HashingModel(), chips, tmp_path / "m").embeddings
    assert found.annotation_ids == ("10", "9", "B", "a", "b", "c")
    assert found.row_of() == {"10": 0, "9": 1, "B": 2, "a": 3, "b": 4, "c": 5}
    assert (found.vectors == expected(chips, found.annotation_ids)).all()
    assert found.chip_keys == tuple(chips.keys[name] for name in found.annotation_ids)


def test_only_what_is_not_there_is_computed_and_what_is_there_stays(tmp_path: Path) -> None:
    chips, folder = chips_of(tmp_path), tmp_path / "m"
    run(HashingModel(), chips_of(tmp_path, NAMES[:6]), folder)
    model = HashingModel()
    outcome = run(model, chips_of(tmp_path, NAMES[4:]), folder)
    assert (outcome.embedded, outcome.reused, sum(model.batches)) == (4, 2, 4)
    assert outcome.embeddings.annotation_ids == NAMES
    assert (outcome.embeddings.vectors == expected(chips)).all()
    idle = HashingModel()
    last = run(idle, chips, folder)
    assert (last.embedded, last.reused, last.images_per_second, idle.batches) == (0, 10, None, [])


def test_a_corrected_box_makes_one_new_vector(tmp_path: Path) -> None:
    chips, folder = chips_of(tmp_path), tmp_path / "m"
    run(HashingModel(), chips, folder)
    corrected = chips_of(tmp_path, ("a03",), "v2")
    both = ChipSet(chips.folder, {**chips.keys, **corrected.keys}, 0, (), ())
    model = HashingModel()
    outcome = run(model, both, folder)
    assert (outcome.embedded, outcome.reused, model.batches) == (1, 9, [1])
    assert (outcome.embeddings.vectors == expected(both)).all()
    assert not (outcome.embeddings.vectors[3] == expected(chips)[3]).all()
    assert outcome.embeddings.chip_keys[3] == "v2-a03"


@pytest.mark.parametrize("before", [(), NAMES[:4]])
def test_a_run_that_was_stopped_goes_on_and_ends_like_one_that_was_not(
    tmp_path: Path, before: tuple[str, ...], caplog: pytest.LogCaptureFixture
) -> None:
    chips = chips_of(tmp_path)
    files = {}
    for name in ("straight", "stopped"):
        folder = tmp_path / name / "m"
        if before:
            run(HashingModel(), chips_of(tmp_path, before), folder)
        if name == "stopped":
            old = {path.name: path.read_bytes() for path in folder.iterdir()} if before else None
            batches = 1 if before else 2
            with pytest.raises(RuntimeError, match="the power went"):
                run(HashingModel(fail_in_batch=batches + 1), chips, folder)
            # What was there is as it was.
            assert old == ({path.name: path.read_bytes() for path in folder.iterdir()} if before else None)
            model = HashingModel()
            with caplog.at_level(logging.INFO):
                outcome = run(model, chips, folder)
            assert sum(model.batches) == 10 - len(before) - 3 * batches
            assert (outcome.embedded, outcome.reused) == (sum(model.batches), 10 - sum(model.batches))
            assert f"{3 * batches} vectors are there from a run that was stopped" in caplog.text
        else:
            run(HashingModel(), chips, folder)
        assert beside(folder) == ["m"]
        files[name] = [(folder / part).read_bytes() for part in ("vectors.npy", "annotations.parquet")]
    assert files["stopped"] == files["straight"]


@pytest.mark.parametrize(
    ("file", "lost_bytes", "rows_left"),
    [
        ("vectors.f16", 1, 5),
        ("vectors.f16", 16 * 2 + 3, 3),
        ("rows.tsv", 1, 5),
        ("rows.tsv", 5, 5),
        ("rows.tsv", 13, 4),
    ],
)
def test_a_row_that_was_half_written_is_made_again(tmp_path: Path, file: str, lost_bytes: int, rows_left: int) -> None:
    chips, folder = chips_of(tmp_path), tmp_path / "m"
    with pytest.raises(RuntimeError):
        run(HashingModel(fail_in_batch=3), chips, folder)
    pending = tmp_path / ".m.pending" / file
    content = pending.read_bytes()
    pending.write_bytes(content[:-lost_bytes])
    model = HashingModel()
    outcome = run(model, chips, folder)
    assert sum(model.batches) == 10 - rows_left
    assert (outcome.embeddings.vectors == expected(chips)).all()


def test_what_a_stopped_run_made_is_kept_by_a_run_for_other_annotations(tmp_path: Path) -> None:
    chips, folder = chips_of(tmp_path), tmp_path / "m"
    with pytest.raises(RuntimeError):
        run(HashingModel(fail_in_batch=3), chips, folder)
    run(HashingModel(), chips_of(tmp_path, NAMES[8:]), folder)
    model = HashingModel()
    outcome = run(model, chips, folder)
    assert sum(model.batches) == 2
    assert (outcome.embeddings.vectors == expected(chips)).all()


def test_a_stopped_run_with_another_box_does_not_win_over_the_box_asked_for(tmp_path: Path) -> None:
    chips, folder = chips_of(tmp_path), tmp_path / "m"
    run(HashingModel(), chips_of(tmp_path, NAMES[:4]), folder)
    other = chips_of(tmp_path, NAMES[:6], "v2")
    with pytest.raises(RuntimeError):
        run(HashingModel(fail_in_batch=2), other, folder)
    outcome = run(HashingModel(), chips, folder)
    assert (outcome.embeddings.vectors == expected(chips)).all()
    assert outcome.embeddings.chip_keys == tuple(chips.keys[name] for name in NAMES)


def test_what_a_stopped_run_of_other_weights_made_is_not_used(tmp_path: Path) -> None:
    chips, folder = chips_of(tmp_path), tmp_path / "m"
    with pytest.raises(RuntimeError):
        run(HashingModel(fail_in_batch=3), chips, folder, weights="bbbb")
    model = HashingModel()
    run(model, chips, folder)
    assert sum(model.batches) == 10


def test_vectors_of_other_weights_are_refused_and_replaced_when_asked(tmp_path: Path) -> None:
    chips, folder = chips_of(tmp_path), tmp_path / "m"
    run(HashingModel(), chips, folder)
    before = (folder / "vectors.npy").read_bytes()
    model = HashingModel()
    with pytest.raises(
        ArtefactMismatch,
        match=r"weights_hash is 'aaaa' there and 'bbbb' now; make them anew with: resight embed --model m --anew",
    ):
        run(model, chips, folder, weights="bbbb")
    assert model.batches == []
    assert (folder / "vectors.npy").read_bytes() == before
    outcome = run(model, chips_of(tmp_path, NAMES[:2]), folder, weights="bbbb", anew=True)
    assert (outcome.embedded, outcome.embeddings.annotation_ids) == (2, NAMES[:2])
    assert Passport.read(folder / "passport.json").decides["weights_hash"] == "bbbb"


@pytest.mark.parametrize("killed", ["between the renames", "before the new one was complete", "after both renames"])
def test_a_run_killed_while_the_new_files_take_their_place_loses_nothing(tmp_path: Path, killed: str) -> None:
    chips, folder = chips_of(tmp_path), tmp_path / "m"
    fresh, old = tmp_path / ".m.new", tmp_path / ".m.old"
    run(HashingModel(), chips_of(tmp_path, NAMES[:4]), folder)
    shutil.copytree(folder, tmp_path / "first")
    run(HashingModel(), chips, folder)
    if killed == "between the renames":
        folder.rename(fresh)
        (tmp_path / "first").rename(old)
    elif killed == "before the new one was complete":
        folder.rename(fresh)
        (fresh / "passport.json").unlink()
        (tmp_path / "first").rename(old)
    else:
        (tmp_path / "first").rename(old)
    model = HashingModel()
    outcome = run(model, chips, folder)
    assert sum(model.batches) == (6 if killed == "before the new one was complete" else 0)
    assert (outcome.embeddings.vectors == expected(chips)).all()
    assert not fresh.exists()
    assert not old.exists()


def test_loading_checks_what_it_finds(tmp_path: Path) -> None:
    chips, folder = chips_of(tmp_path), tmp_path / "m"
    run(HashingModel(), chips, folder)
    assert load(folder, None, name="m").annotation_ids == NAMES
    with pytest.raises(ArtefactMismatch, match="dim is 8 there and 9 now"):
        load(folder, passport(dim=9), name="m")
    vectors = (folder / "vectors.npy").read_bytes()
    for broken in (b"", vectors[:50], vectors[:-1], b"text"):
        (folder / "vectors.npy").write_bytes(broken)
        with pytest.raises(ArtefactMismatch, match=r"m cannot be read .* resight embed --model m --anew"):
            load(folder, None, name="m")
    np.save(folder / "vectors.npy", np.zeros((9, 8), np.float16))
    with pytest.raises(ArtefactMismatch, match="holds 9 vectors of 10 annotations"):
        load(folder, None, name="m")
    (folder / "annotations.parquet").write_bytes(b"PAR1")
    with pytest.raises(ArtefactMismatch, match="cannot be read"):
        load(folder, None, name="m")


class Network:
    weights_hash = "abcd"

    def __init__(self, **changes: Any) -> None:
        usual = EmbedderConfig(backbone="net", dim=8, image_size=256, mean=(0.5, 0.5, 0.5), std=(0.2, 0.2, 0.2))
        self.config = replace(usual, **changes)


def test_the_passport_holds_all_that_changes_a_vector() -> None:
    assert passport_for(Network()).decides == {
        "weights_hash": "abcd", "backbone": "net", "dim": 8, "image_size": 256, "mean": [0.5, 0.5, 0.5],
        "std": [0.2, 0.2, 0.2], "embed_version": 1,
    }  # fmt: skip


@pytest.mark.parametrize(
    "change",
    [
        {"pooling": "backbone"},
        {"output_stride": 16},
        {"gem_levels": 2},
        {"gem_columns": 2},
        {"neck": "none"},
        {"pooling_eps": 0.1},
    ],
)
def test_settings_that_do_not_show_in_the_weights_make_other_vectors(tmp_path: Path, change: dict[str, Any]) -> None:
    usual, changed = passport_for(Network()), passport_for(Network(**change))
    (name,) = change
    with pytest.raises(ArtefactMismatch, match=rf"{name} is not stated there and .* now"):
        usual.require_fit(changed, where=tmp_path, remedy="make them anew")


def test_who_gave_the_weights_and_under_which_licence_changes_no_vector() -> None:
    assert passport_for(Network(licence="MIT", weights_source="here")) == passport_for(Network())


def test_two_threads_that_embed_at_once_leave_every_vector_with_its_annotation(tmp_path: Path) -> None:
    chips = chips_of(tmp_path)
    folder = tmp_path / "embeddings" / "m"
    straight = run(HashingModel(), chips, tmp_path / "embeddings" / "straight").embeddings
    with ThreadPoolExecutor(4) as pool:
        done = [pool.submit(run, HashingModel(), chips, folder) for _ in range(4)]
        outcomes = [one.result() for one in done]
    assert sorted(outcome.embedded for outcome in outcomes) == [0, 0, 0, 10]
    for outcome in outcomes:
        assert outcome.embeddings.annotation_ids == straight.annotation_ids
        assert np.array_equal(outcome.embeddings.vectors, straight.vectors)


def test_a_vector_of_an_annotation_that_has_no_chip_any_more_does_not_count(tmp_path: Path) -> None:
    chips = chips_of(tmp_path)
    folder = tmp_path / "embeddings" / "m"
    run(HashingModel(), chips, folder)
    gone, *rest = sorted(chips.keys)
    fewer = replace(chips, keys={name: chips.keys[name] for name in rest})
    assert set(run(HashingModel(), fewer, folder).embeddings.row_of()) == set(rest)
    assert gone in run(HashingModel(), chips, folder).embeddings.row_of()


def test_sets_of_chips_one_after_the_other_end_like_one_set(tmp_path: Path) -> None:
    chips = chips_of(tmp_path)
    straight = run(HashingModel(), chips, tmp_path / "embeddings" / "straight").embeddings
    parts = [replace(chips, keys={n: chips.keys[n] for n in names}) for names in (NAMES[6:], NAMES[:2], (), NAMES[2:6])]
    model = HashingModel()
    outcome = run(model, iter(parts), tmp_path / "embeddings" / "m")
    assert (outcome.embedded, outcome.reused, model.batches) == (10, 0, [3, 1, 2, 3, 1])
    assert outcome.embeddings.row_of() == straight.row_of()
    assert np.array_equal(outcome.embeddings.vectors, straight.vectors)
    again = run(HashingModel(), iter(parts), tmp_path / "embeddings" / "m")
    assert (again.embedded, again.reused, again.embeddings.row_of()) == (0, 10, straight.row_of())


def test_vectors_to_be_replaced_stay_until_the_new_ones_are_there(tmp_path: Path) -> None:
    chips, folder = chips_of(tmp_path), tmp_path / "m"
    run(HashingModel(), chips, folder)
    before = (folder / "vectors.npy").read_bytes()

    def broken() -> Iterator[ChipSet]:
        raise RuntimeError("no photo can be used")
        yield chips

    with pytest.raises(RuntimeError, match="no photo"):
        run(HashingModel(), broken(), folder, weights="bbbb", anew=True)
    with pytest.raises(RuntimeError, match="the power went"):
        run(HashingModel(fail_in_batch=2), chips, folder, weights="bbbb", anew=True)
    assert (folder / "vectors.npy").read_bytes() == before
    assert run(HashingModel(), chips, folder).reused == 10


def test_the_passport_records_everything_that_made_a_vector_of_the_set(tmp_path: Path) -> None:
    chips, folder = chips_of(tmp_path), tmp_path / "m"

    def makers() -> list[str]:
        return Passport.read(folder / "passport.json").recorded["made_by"]

    run(HashingModel(), chips_of(tmp_path, NAMES[:4]), folder, made_by=lambda: "torch float32")
    assert makers() == ["torch float32"]
    run(HashingModel(), chips, folder, made_by=lambda: "openvino float32")
    assert makers() == ["openvino float32", "torch float32"]
    run(HashingModel(), chips, folder, made_by=lambda: "onnx float32")  # makes nothing
    assert makers() == ["openvino float32", "torch float32"]
    run(HashingModel(), chips, folder, anew=True, made_by=lambda: "onnx float32")
    assert makers() == ["onnx float32"]


def test_what_is_made_ahead_comes_in_order_and_while_the_caller_works() -> None:
    met = Barrier(2, timeout=20)

    def items() -> Iterator[tuple[int, str]]:
        for number in range(4):
            if number == 2:
                met.wait()  # passes only if the caller is at work at the same time
            yield number, current_thread().name

    found = []
    for number, thread in ahead(items(), 2):
        if number == 1:
            met.wait()
        found.append(number)
        assert thread != current_thread().name
    assert found == [0, 1, 2, 3]
    assert list(ahead([], 3)) == []


def test_no_more_is_made_ahead_than_was_asked_for_and_nothing_after_the_caller_left() -> None:
    made: list[int] = []
    third = Event()

    def items() -> Iterator[int]:
        for number in range(100):
            made.append(number)
            if number == 2:
                third.set()
            yield number

    walk = ahead(items(), 2)
    assert next(walk) == 0
    assert third.wait(20)
    walk.close()
    assert len(made) <= 3


def test_what_making_an_item_raises_reaches_the_caller_in_its_place() -> None:
    def items() -> Iterator[int]:
        yield 1
        raise ValueError("the second")

    walk = ahead(items(), 2)
    assert next(walk) == 1
    with pytest.raises(ValueError, match="the second"):
        next(walk)
