from __future__ import annotations

import csv
import json
import os
import signal
import subprocess
import sys
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from resight.experiments import worker
from resight.experiments.folder import Done, ExperimentsFolder, Lease, Pace
from resight.experiments.sides import TestSide, read_vectors, write_side
from resight.experiments.worker import UnitReport, main, work
from resight.models.agreement import measure_agreement
from resight.models.embedder import Embedder
from resight.models.weights import new_embedder
from resight.training import checkpoint, loop
from resight.training.chipset import TrainingSample
from resight.training.loop import Job, train
from resight.training.plan import read_plan, write_plan
from resight.training.presets import TINY
from resight.training.recipe import Augmentation, Recipe

from ..training.drawn import draw_samples
from ..training.runs import same

SIZE = 32
RECIPE = replace(
    TINY, backbone="test_efficientnet", weights="none", image_size=SIZE, batch_size=10, epochs=1, learning_rate=1e-3,
    augment=Augmentation(),
)  # fmt: skip
QUICK = Pace(beat_seconds=0.05, stale_seconds=60.0, poll_seconds=0.02)


@pytest.fixture(autouse=True)
def quick_and_repeatable(monkeypatch: pytest.MonkeyPatch) -> None:
    """With several threads the last bits may differ; drawing the curves takes longer than training."""
    torch.set_num_threads(1)
    monkeypatch.setattr(loop, "draw_curves", lambda run_dir, reports: None)


@dataclass
class Shared:
    """A project folder with chips, two test sides, and a plan that grows unit by unit."""

    folder: ExperimentsFolder
    samples: list[TrainingSample]
    units: list[dict[str, Any]] = field(default_factory=list)

    @property
    def plan(self) -> Path:
        return self.folder.plan("p")

    def add(
        self,
        key: str,
        recipe: Recipe | None = RECIPE,
        *,
        needs: str | None = None,
        species: Sequence[str] = ("barred", "striped"),
        tests: Mapping[str, Sequence[str]] | None = None,
    ) -> None:
        """Write a unit's job or model, and the plan with it."""
        if recipe is None:
            new_embedder("test_efficientnet", weights="none", image_size=SIZE).save(self.folder.model(key))
        else:
            samples = [sample for sample in self.samples if sample.species in species]
            write_plan(Job(samples, recipe, self.folder.run(key), origin={"split": "s"}))
        wanted = {"of-striped": ("striped",)} if tests is None else tests
        self.units.append({
            "key": key, "label": f"model {key}", "split": "s", "seed": 0, "needs": needs, "trains": recipe is not None,
            "tests": [{"key": side, "species": list(names)} for side, names in wanted.items()], "training_images": 40,
        })  # fmt: skip
        self.plan.parent.mkdir(parents=True, exist_ok=True)
        self.plan.write_text(json.dumps({"experiment": "zero-shot", "units": self.units}))

    def chips(self, species: str) -> np.ndarray:
        return np.stack([np.load(one.chip_path) for one in self.samples if one.species == species])

    def file(self, key: str, name: str) -> Path:
        return self.folder.run(key) / name


@pytest.fixture
def shared(tmp_path: Path) -> Shared:
    # 16 barred chips, so many that the faster network is made, and 12 striped ones.
    drawn = draw_samples(tmp_path / "chips", identities=8, chips=4, size=SIZE)
    samples = sorted((one for one in drawn if one.identity != "animal 3" or one.species == "barred"),
                     key=lambda one: one.annotation_id)  # fmt: skip
    assert Counter(one.species for one in samples) == {"barred": 16, "striped": 12}
    folder = ExperimentsFolder(tmp_path / "experiments", QUICK)

    def side_of(species: str) -> tuple[TestSide, list[Path]]:
        rows = [one for one in samples if one.species == species]
        texts = np.array([one.identity for one in rows])
        flags = np.ones(len(rows), np.bool_)
        names = tuple(one.annotation_id for one in rows)
        return TestSide(species, names, texts, texts, np.array(names), flags, flags), [one.chip_path for one in rows]

    striped, chips = side_of("striped")
    # Any other chip will do for what surrounds the animal.
    write_side(folder.side("of-striped"), striped, chips, [chips[11], None, chips[9], *[None] * 9])
    barred, more = side_of("barred")
    write_side(folder.side("of-both"), [barred, striped], [*more, *chips], [None] * 28)
    return Shared(folder, samples)


def failing(message: str) -> Callable[..., Any]:
    def fail(*_: Any) -> None:
        raise RuntimeError(message)

    return fail


def test_a_plan_is_done_once_and_leaves_what_was_promised(shared: Shared) -> None:
    shared.add("joint")
    shared.add("fine", replace(RECIPE, weights="init", learning_rate=1e-5), needs="joint", species=["striped"])
    shared.add("ready", None)
    told: list[UnitReport] = []

    outcome = work(shared.folder, "p", device="cpu", on_unit=told.append)

    assert [unit.key for unit in outcome.done] == ["joint", "fine", "ready"]
    assert [(report.unit.key, report.state, report.here) for report in told] == [
        ("joint", "done", True), ("fine", "done", True), ("ready", "done", True),
    ]  # fmt: skip
    assert len(outcome.reports) == 3
    for key in ("joint", "fine", "ready"):
        done = shared.folder.read_done(key)
        assert done.weights_hash == Embedder.load(shared.folder.model(key)).weights_hash
        assert (done.epochs, bool(done.images_per_second)) == ((0, False) if key == "ready" else (1, True))
        assert done.seconds > 0
        assert "torch float32 on the CPU" in done.made_by
        assert not shared.file(key, "lease.json").exists()
    # The second starts from the first one's model and hardly moves; a start at random would be elsewhere.
    config = json.loads(shared.file("fine", "config.json").read_text())
    assert config["initial_weights_hash"] == shared.folder.read_done("joint").weights_hash

    before = {path: path.stat().st_mtime_ns for path in shared.folder.path.rglob("*") if path.is_file()}
    told.clear()
    outcome = work(shared.folder, "p", device="cpu", on_unit=told.append)
    assert [unit.key for unit in outcome.there] == ["joint", "fine", "ready"]
    assert outcome.done == ()
    assert len(told) == 3
    assert before == {path: path.stat().st_mtime_ns for path in shared.folder.path.rglob("*") if path.is_file()}

    shared.add("new", None)
    outcome = work(shared.folder, "p", device="cpu")
    assert [unit.key for unit in outcome.done] == ["new"]
    assert all(path.stat().st_mtime_ns == touched for path, touched in before.items() if path != shared.plan)


def test_vectors_are_those_of_the_embedder_in_the_side_s_order(shared: Shared) -> None:
    shared.add("ready", None, tests={"of-striped": ["striped"], "of-both": ["barred"]})
    work(shared.folder, "p", device="cpu")
    embedder = Embedder.load(shared.folder.model("ready"))
    run = shared.folder.run("ready")
    names = {species: tuple(one.annotation_id for one in shared.samples if one.species == species)
             for species in ("barred", "striped")}  # fmt: skip

    striped = read_vectors(run, "of-striped")["striped"]
    expected = embedder.embed_chips(shared.chips("striped"))
    assert striped.annotation_ids == names["striped"]
    assert striped.vectors.tobytes() == expected.tobytes()

    of_both = read_vectors(run, "of-both")
    assert list(of_both) == ["barred"]  # the unit is not tested on the others
    assert of_both["barred"].annotation_ids == names["barred"]
    barred = embedder.embed_chips(shared.chips("barred"))
    found = np.asarray(of_both["barred"].vectors)
    assert found.shape == barred.shape
    assert measure_agreement(barred.astype(np.float32), found.astype(np.float32)).holds
    assert np.abs(found.astype(np.float32) - barred.astype(np.float32)).max() < 1e-2 * np.abs(barred).max()

    background = read_vectors(run, "of-striped", background=True)["striped"]
    assert background.annotation_ids == (names["striped"][0], names["striped"][2])
    assert np.abs(np.asarray(background.vectors, np.float32) - expected[[11, 9]]).max() < 1e-2 * np.abs(expected).max()
    assert read_vectors(run, "of-both", background=True) == {}


def test_a_failure_blocks_what_needs_it_and_nothing_else_and_is_tried_again(shared: Shared) -> None:
    shared.add("bad", species=["barred"])
    shared.add("next", replace(RECIPE, weights="init"), needs="bad")
    shared.add("last", replace(RECIPE, weights="init"), needs="next")
    shared.add("good", None)
    gone = next(one.chip_path for one in shared.samples if one.species == "barred")
    content = gone.read_bytes()
    gone.unlink()

    outcome = work(shared.folder, "p", device="cpu")

    assert [report.unit.key for report in outcome.failed] == ["bad"]
    assert [unit.key for unit in outcome.blocked] == ["next", "last"]
    assert [unit.key for unit in outcome.done] == ["good"]
    error = json.loads(shared.file("bad", "failed.json").read_text())["error"]
    assert error == outcome.failed[0].error
    assert error.startswith(f"model bad (split s, seed 0): chip {gone} cannot be used: the file is missing (1 of ")
    assert error.endswith("plan it anew: resight experiment zero-shot --plan-only")
    assert "\n" not in error
    assert not any(shared.file(key, "done.json").exists() for key in ("bad", "next", "last"))
    assert not shared.file("bad", "lease.json").exists()

    gone.write_bytes(content)
    outcome = work(shared.folder, "p", device="cpu")
    assert [unit.key for unit in outcome.done] == ["bad", "next", "last"]
    assert [unit.key for unit in outcome.there] == ["good"]
    assert not shared.file("bad", "failed.json").exists()


@pytest.mark.parametrize("spoil", ["chip", "side", "species", "model", "unknown"])
def test_whatever_a_unit_lacks_is_one_line_and_the_next_unit_is_done(
    shared: Shared, spoil: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    side = {"side": "nowhere", "species": "of-both"}.get(spoil, "of-striped")
    shared.add("bad", None, tests={side: ["unicorn" if spoil == "species" else "striped"]})
    shared.add("good", None, tests={})
    if spoil == "chip":
        np.save(
            next(one.chip_path for one in shared.samples if one.species == "striped"), np.zeros((8, 8, 3), np.uint8)
        )
    if spoil == "model":
        (shared.folder.model("bad") / "config.json").unlink()
    if spoil == "unknown":
        monkeypatch.setattr(worker, "read_side", failing("first line\nsecond line"))

    outcome = work(shared.folder, "p", device="cpu")

    assert [unit.key for unit in outcome.done] == ["good"]
    expected = {
        "chip": "expected uint8 (32, 32, 3) (1 of 12 such); plan it anew",
        "side": "side.parquet cannot be read (it is missing)",
        "species": "test side of-both has no unicorn; plan it anew",
        "model": "is missing; plan it anew",
        "unknown": "RuntimeError: first line second line",
    }[spoil]
    assert expected in (outcome.failed[0].error or "")
    assert outcome.failed[0].line.startswith("failed: model bad (split s, seed 0): ")
    assert "\n" not in outcome.failed[0].line


def test_an_interrupted_worker_gives_its_lease_back(shared: Shared, monkeypatch: pytest.MonkeyPatch) -> None:
    shared.add("joint")

    def interrupt(*_: Any) -> None:
        assert shared.file("joint", "lease.json").exists()
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(worker, "run_training", interrupt)
        with pytest.raises(KeyboardInterrupt):
            work(shared.folder, "p", device="cpu")
    assert not any(shared.file("joint", name).exists() for name in ("lease.json", "failed.json", "done.json"))
    assert [unit.key for unit in work(shared.folder, "p", device="cpu").done] == ["joint"]


def test_a_worker_that_loses_its_lease_stops_and_leaves_the_unit_to_the_other(
    shared: Shared, monkeypatch: pytest.MonkeyPatch
) -> None:
    shared.add("joint", replace(RECIPE, epochs=4))
    shared.add("ready", None)
    lease = shared.file("joint", "lease.json")

    def write_and_lose(*given: Any) -> None:
        checkpoint.write_checkpoint(*given)
        lease.unlink()
        lease.write_text('{"token": "another"}')

    monkeypatch.setattr(loop, "write_checkpoint", write_and_lose)

    outcome = work(shared.folder, "p", device="cpu", wait=False)

    assert [unit.key for unit in outcome.waiting] == ["joint"]
    assert [unit.key for unit in outcome.done] == ["ready"]
    assert not shared.file("joint", "model").exists()
    assert not shared.file("joint", "done.json").exists()
    assert not shared.file("joint", "failed.json").exists()
    assert lease.read_text() == '{"token": "another"}'
    assert len(shared.file("joint", "log.csv").read_text().splitlines()) == 2  # the header and one epoch


def test_a_unit_that_another_finished_just_before_the_claim_is_not_done_again(
    shared: Shared, monkeypatch: pytest.MonkeyPatch
) -> None:
    shared.add("joint")
    claim = ExperimentsFolder.claim

    def claim_late(self: ExperimentsFolder, key: str) -> Lease | None:
        self.write_done(key, Done(seconds=1.0, images_per_second=2.0, epochs=1, weights_hash="w", made_by="the other"))
        return claim(self, key)

    monkeypatch.setattr(ExperimentsFolder, "claim", claim_late)
    assert [unit.key for unit in work(shared.folder, "p", device="cpu").there] == ["joint"]
    assert not shared.file("joint", "model").exists()
    assert not shared.file("joint", "lease.json").exists()


def test_embedding_goes_on_with_the_sides_that_are_there(shared: Shared, monkeypatch: pytest.MonkeyPatch) -> None:
    shared.add("ready", None, tests={"of-striped": ["striped"], "of-both": ["barred"]})
    read = worker._read

    def fail_later(path: Path) -> Any:
        if path == next(one.chip_path for one in shared.samples if one.species == "barred"):
            raise KeyboardInterrupt
        return read(path)

    with monkeypatch.context() as patched:
        patched.setattr(worker, "_read", fail_later)
        with pytest.raises(KeyboardInterrupt):
            work(shared.folder, "p", device="cpu")
    vectors = shared.file("ready", "vectors")
    names = {"of-striped.npy", "of-striped.parquet", "of-striped-background.npy", "of-striped-background.parquet"}
    assert {path.name for path in vectors.iterdir()} == names
    before = (vectors / "of-striped.npy").stat().st_mtime_ns
    work(shared.folder, "p", device="cpu")
    assert (vectors / "of-striped.npy").stat().st_mtime_ns == before
    assert read_vectors(shared.folder.run("ready"), "of-both")["barred"].vectors.shape[0] == 16


def test_a_unit_of_another_worker_is_waited_for_after_all_others(shared: Shared) -> None:
    shared.add("others", None)
    shared.add("ready", None)
    lease = shared.folder.claim("others")
    assert lease is not None
    order = []

    def other_is_done(report: UnitReport) -> None:
        order.append((report.unit.key, report.here))
        if report.unit.key == "ready":
            assert lease is not None
            shared.folder.write_done("others", replace(shared.folder.read_done("ready"), made_by="the other"))
            lease.release()

    outcome = work(shared.folder, "p", device="cpu", on_unit=other_is_done)
    assert order == [("ready", True), ("others", False)]
    assert [unit.key for unit in outcome.there] == ["others"]
    assert outcome.reports[0].done is not None
    assert outcome.reports[0].done.made_by == "the other"


def test_a_shell_gets_a_line_a_unit_and_an_exit_code(
    shared: Shared, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    shared.add("ready", None)
    assert main([str(shared.plan), "--device", "cpu"]) == 0
    assert capsys.readouterr().out.startswith("done: model ready (split s, seed 0) in ")
    shared.add("bad", None, tests={"nowhere": ["striped"]})
    assert main([str(shared.plan), "--device", "cpu"]) == 1
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "done: model ready (split s, seed 0), nothing to do here"
    assert lines[1].startswith("failed: model bad (split s, seed 0): ")
    assert len(lines) == 2
    assert main([str(shared.plan.with_name("q.json"))]) == 2
    assert main([str(tmp_path / "p.json")]) == 2
    shared.plan.write_text("{}")
    assert main([str(shared.plan)]) == 2
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert main([str(shared.plan), "--device", "cuda"]) == 2


def test_what_another_worker_has_is_left_to_it_on_demand(shared: Shared, capsys: pytest.CaptureFixture[str]) -> None:
    shared.add("others", None)
    shared.add("next", needs="others")
    lease = shared.folder.claim("others")
    assert lease is not None
    with lease:
        assert main([str(shared.plan), "--device", "cpu", "--no-wait"]) == 0
    assert [line.partition(":")[0] for line in capsys.readouterr().out.splitlines()] == ["waiting", "waiting"]
    assert not shared.folder.is_done("others")


def test_a_cluster_s_signal_that_time_is_up_gives_the_lease_back(
    shared: Shared, monkeypatch: pytest.MonkeyPatch
) -> None:
    shared.add("joint")

    def end(*_: Any) -> None:
        os.kill(os.getpid(), signal.SIGTERM)

    monkeypatch.setattr(worker, "run_training", end)
    before = signal.getsignal(signal.SIGTERM)
    assert main([str(shared.plan), "--device", "cpu"]) == 130
    assert signal.getsignal(signal.SIGTERM) == before
    assert not any(shared.file("joint", name).exists() for name in ("lease.json", "failed.json", "done.json"))


NO_CURVES = """
from resight.training import loop
loop.draw_curves = lambda run_dir, reports: None
"""


def python(script: str, *arguments: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-c", f"{NO_CURVES}{script}", *arguments],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )


# Both begin when both are there; one that opened the catalogue would have imported SQLAlchemy.
TOGETHER = """
import sys, time
from pathlib import Path
from resight.experiments.worker import main
plan, own, other = sys.argv[1:]
Path(own).touch()
end = time.monotonic() + 200
while not Path(other).exists() and time.monotonic() < end:
    time.sleep(0.01)
code = main([plan, "--device", "cpu"])
sys.exit("the catalogue was opened" if "sqlalchemy" in sys.modules else code)
"""


def test_two_processes_share_a_plan_and_do_each_unit_once(shared: Shared, tmp_path: Path) -> None:
    shared.add("joint")
    shared.add("fine", replace(RECIPE, weights="init"), needs="joint")
    shared.add("joint-1", replace(RECIPE, seed=1))
    shared.add("fine-1", replace(RECIPE, weights="init", seed=1), needs="joint-1")
    shared.add("single", species=["striped"])
    shared.add("ready", None)
    ready = [str(tmp_path / "first"), str(tmp_path / "second")]

    workers = [python(TOGETHER, str(shared.plan), *pair) for pair in (ready, ready[::-1])]
    said = [one.communicate(timeout=300) for one in workers]

    assert [one.returncode for one in workers] == [0, 0], said
    begun = [[line for line in errors.splitlines() if line.startswith("begun: ")] for _, errors in said]
    assert sorted(begun[0] + begun[1]) == sorted(f"begun: {one['label']} (split s, seed 0)" for one in shared.units)
    assert begun[0]
    assert begun[1]
    for out, errors in said:
        assert len(out.splitlines()) == 6
        assert errors.splitlines()[-1] == "6 done"
    assert all(shared.folder.is_done(one["key"]) for one in shared.units)
    assert not list(shared.folder.path.rglob("lease.json"))
    assert not list(shared.folder.path.rglob(".*"))


# Dies as if its machine had lost power, right after its second checkpoint.
DIES = """
import os, signal, sys
from resight.experiments.worker import main
from resight.training import checkpoint
written = []
def write_and_die(*given):
    checkpoint.write_checkpoint(*given)
    written.append(given)
    if len(written) == 2:
        os.kill(os.getpid(), signal.SIGKILL)
loop.write_checkpoint = write_and_die
main([sys.argv[1], "--device", "cpu"])
"""


def test_a_killed_worker_s_unit_is_taken_over_and_finishes_from_its_checkpoint(shared: Shared, tmp_path: Path) -> None:
    shared.add("joint", replace(RECIPE, epochs=4, precision="float32"))
    killed = python(DIES, str(shared.plan))
    killed.communicate(timeout=300)
    assert killed.returncode == -signal.SIGKILL
    assert shared.file("joint", "lease.json").exists()
    state = checkpoint.read_checkpoint(shared.folder.run("joint"))
    assert state is not None
    assert state[0].epoch == 2

    other = ExperimentsFolder(shared.folder.path, replace(QUICK, stale_seconds=1.0))
    outcome = work(other, "p", device="cpu")

    assert [unit.key for unit in outcome.done] == ["joint"]
    with shared.file("joint", "log.csv").open(newline="") as log:
        rows = list(csv.DictReader(log))
    assert len(rows) == 4
    assert [float(row["seconds"]) for row in rows[:2]] == [report.seconds for report in state[0].reports]
    job = read_plan(shared.folder.run("joint"), resume=False)
    whole = train(replace(job, run_dir=tmp_path / "whole"), device="cpu")
    assert same(Embedder.load(whole.model).state_dict(), Embedder.load(shared.folder.model("joint")).state_dict())
