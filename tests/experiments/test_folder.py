from __future__ import annotations

import json
import os
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from resight.errors import InputError, UnknownName
from resight.experiments import folder as folder_module
from resight.experiments.folder import Done, ExperimentsFolder, LeaseLost, Pace, Unit, UnitTest, WorkPlan

QUIET = Pace(beat_seconds=1000.0, stale_seconds=60.0)  # a heart that does not beat
STALE = 61.0
DONE = Done(seconds=1.5, images_per_second=None, epochs=0, weights_hash="w", made_by="a test")


def unit(key: str, needs: str | None = None) -> Unit:
    return Unit(key, f"label {key}", "s", 0, needs, True, (UnitTest("side", ("cow",)),), 10)


def as_json(one: Unit, **changes: Any) -> dict[str, Any]:
    return {
        "key": one.key, "label": one.label, "split": one.split, "seed": one.seed, "needs": one.needs,
        "trains": one.trains, "tests": [{"key": test.key, "species": list(test.species)} for test in one.tests],
        "training_images": one.training_images, **changes,
    }  # fmt: skip


def write_plan(folder: ExperimentsFolder, *units: dict[str, Any]) -> None:
    folder.plan("p").parent.mkdir(parents=True, exist_ok=True)
    folder.plan("p").write_text(json.dumps({"experiment": "e", "question": "?", "units": units}))


def age(path: Path, seconds: float) -> None:
    """As if nobody had touched the file for so long, on the file system's clock."""
    touched = path.stat().st_mtime_ns - int(seconds * 1e9)
    os.utime(path, ns=(touched, touched))


def test_a_plan_is_read_and_what_workers_do_not_know_is_ignored(tmp_path: Path) -> None:
    folder = ExperimentsFolder(tmp_path)
    units = unit("a"), replace(unit("b", needs="a"), trains=False)
    write_plan(folder, as_json(units[0], extra=1), as_json(units[1]))
    assert folder.read_plan("p") == WorkPlan("p", "e", units)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"needs": "later"}, r"label a \(split s, seed 0\) needs later, which does not come before it"),
        ({"needs": "a"}, "needs a, which does not come before it"),
        ({"key": "../elsewhere"}, "is no plan of an experiment"),
        ({"seed": "first"}, "is no plan of an experiment"),
        ({"tests": None}, "is no plan of an experiment"),
    ],
)
def test_a_plan_that_cannot_be_worked_on_is_one_line(tmp_path: Path, changes: dict[str, Any], message: str) -> None:
    folder = ExperimentsFolder(tmp_path)
    write_plan(folder, as_json(unit("a"), **changes), as_json(unit("later")))
    with pytest.raises(InputError, match=message) as raised:
        folder.read_plan("p")
    assert "\n" not in str(raised.value)


def test_a_plan_that_is_not_there_names_those_that_are(tmp_path: Path) -> None:
    folder = ExperimentsFolder(tmp_path)
    write_plan(folder)
    with pytest.raises(UnknownName, match="no plan named 'q': there are: p"):
        folder.read_plan("q")


def test_what_is_done_and_what_failed_comes_back(tmp_path: Path) -> None:
    folder = ExperimentsFolder(tmp_path)
    assert not folder.is_done("a")
    folder.write_done("a", DONE)
    assert folder.is_done("a")
    assert folder.read_done("a") == DONE
    assert set(json.loads((folder.run("a") / "done.json").read_text())) == {
        "seconds", "images_per_second", "epochs", "weights_hash", "made_by",
    }  # fmt: skip
    folder.write_failure("b", "it broke")
    assert folder.read_failure("b") == "it broke"
    assert set(json.loads((folder.run("b") / "failed.json").read_text())) == {"error", "at_utc"}
    folder.forget_failure("b")
    assert folder.read_failure("b") is None


def test_the_states_of_units(tmp_path: Path) -> None:
    folder = ExperimentsFolder(tmp_path, QUIET)
    units = [unit(key) for key in ("done", "bad", "mine", "dead", "new")]
    units += [unit("after bad", needs="bad"), unit("after that", needs="after bad"), unit("after done", needs="done")]
    folder.write_done("done", DONE)
    folder.write_failure("bad", "it broke")
    folder.write_failure("mine", "the time before")
    assert folder.claim("dead") is not None
    age(folder.run("dead") / "lease.json", STALE)
    lease = folder.claim("mine")
    assert lease is not None
    with lease:
        assert folder.states(units) == {
            "done": "done",
            "bad": "failed",
            "mine": "leased",
            "dead": "waiting",
            "new": "waiting",
            "after bad": "blocked",
            "after that": "blocked",
            "after done": "waiting",
        }
    later = folder.clock_ns() + 1
    assert folder.states(units, since_ns=later)["bad"] == "waiting"
    assert folder.states(units, since_ns=later)["after that"] == "waiting"
    assert folder.states(units, since_ns=later, failed={"bad"})["after that"] == "blocked"


def test_a_lease_is_one_worker_s_until_it_is_released(tmp_path: Path) -> None:
    folder = ExperimentsFolder(tmp_path, QUIET)
    lease = folder.claim("a")
    assert lease is not None
    says = json.loads((folder.run("a") / "lease.json").read_text())
    assert says["pid"] == os.getpid()
    assert folder.claim("a") is None
    assert folder.claim("b") is not None
    lease.require_held()
    lease.release()
    assert list(folder.run("a").iterdir()) == []
    again = folder.claim("a")
    assert again is not None
    with pytest.raises(LeaseLost):
        lease.require_held()
    lease.release()  # a second time: it is another's now
    again.require_held()


def test_a_heart_that_beats_keeps_a_lease_from_being_stale(tmp_path: Path) -> None:
    folder = ExperimentsFolder(tmp_path, Pace(beat_seconds=0.02, stale_seconds=60.0))
    lease = folder.claim("a")
    assert lease is not None
    path = folder.run("a") / "lease.json"
    with lease:
        age(path, STALE)
        old = path.stat().st_mtime_ns
        end = time.monotonic() + 20.0
        while path.stat().st_mtime_ns == old and time.monotonic() < end:
            time.sleep(0.01)
        assert folder.claim("a") is None
        lease.require_held()
    assert not path.exists()


def test_a_worker_that_stood_still_finds_that_it_has_lost_its_lease(tmp_path: Path) -> None:
    folder = ExperimentsFolder(tmp_path, QUIET)
    paused = folder.claim("a")
    assert paused is not None
    age(folder.run("a") / "lease.json", STALE)
    taken = folder.claim("a")
    assert taken is not None
    with pytest.raises(LeaseLost, match="another worker has taken over a"):
        paused.require_held()
    paused.release()
    taken.require_held()
    assert [path.name for path in folder.run("a").iterdir()] == ["lease.json"]


def test_a_beat_never_touches_another_worker_s_lease(tmp_path: Path) -> None:
    folder = ExperimentsFolder(tmp_path, Pace(beat_seconds=0.02, stale_seconds=60.0))
    lease = folder.claim("a")
    assert lease is not None
    path = folder.run("a") / "lease.json"
    other = path.with_name("other")
    other.write_text('{"token": "another"}')
    age(other, 100.0)
    other.replace(path)
    before = path.stat().st_mtime_ns
    time.sleep(0.2)
    assert path.stat().st_mtime_ns == before
    lease.release()
    assert path.read_text() == '{"token": "another"}'


def test_a_stale_lease_is_taken_by_exactly_one_of_many(tmp_path: Path) -> None:
    threads = 8
    folder = ExperimentsFolder(tmp_path, QUIET)
    with ThreadPoolExecutor(threads) as pool:
        for number in range(25):
            key = f"k{number}"
            dead = folder.claim(key)
            assert dead is not None
            age(folder.run(key) / "lease.json", STALE)
            ready = threading.Barrier(threads)

            def take(key: str = key, ready: threading.Barrier = ready) -> bool:
                ready.wait()
                # Several looks, as workers that poll have: a late one must not move away what the first has made.
                return any(folder.claim(key) is not None for _ in range(3))

            assert sum(future.result() for future in [pool.submit(take) for _ in range(threads)]) == 1
            assert [path.name for path in folder.run(key).iterdir()] == ["lease.json"]


def test_a_new_lease_is_made_by_exactly_one_of_many(tmp_path: Path) -> None:
    folder = ExperimentsFolder(tmp_path, QUIET)
    with ThreadPoolExecutor(8) as pool:
        assert sum(lease is not None for lease in pool.map(folder.claim, ["a"] * 8)) == 1


def test_a_lease_that_came_into_the_place_of_a_stale_one_is_put_back(tmp_path: Path) -> None:
    """The taker saw a stale one; before it moves it away, its owner has released it and a third has made a new one."""
    folder = ExperimentsFolder(tmp_path, QUIET)
    third = folder.claim("a")
    assert third is not None
    assert not folder_module._move_away(folder.run("a") / "lease.json", "of the stale one")
    third.require_held()
    assert [path.name for path in folder.run("a").iterdir()] == ["lease.json"]


@pytest.mark.parametrize("content", ["", "{", "[]"])
def test_a_lease_without_a_name_is_taken_when_it_is_stale(tmp_path: Path, content: str) -> None:
    """A worker may die between making the file and writing into it."""
    folder = ExperimentsFolder(tmp_path, QUIET)
    folder.run("a").mkdir(parents=True)
    (folder.run("a") / "lease.json").write_text(content)
    assert folder.claim("a") is None
    age(folder.run("a") / "lease.json", STALE)
    assert folder.claim("a") is not None


def test_a_worker_that_died_while_it_took_over_does_not_bar_the_others(tmp_path: Path) -> None:
    folder = ExperimentsFolder(tmp_path, QUIET)
    assert folder.claim("a") is not None
    ticket = folder.run("a") / ".lease.taking"
    ticket.touch()
    age(folder.run("a") / "lease.json", STALE)
    assert folder.claim("a") is None  # somebody is at it
    age(ticket, STALE)
    assert folder.claim("a") is None  # nobody is: the way is free from now on
    assert folder.claim("a") is not None


@pytest.mark.parametrize("off_by", [-86400.0, 86400.0])
def test_the_machine_s_clock_does_not_matter(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, off_by: float) -> None:
    wrong = time.time() + off_by
    monkeypatch.setattr(time, "time", lambda: wrong)
    monkeypatch.setattr(time, "time_ns", lambda: int(wrong * 1e9))
    folder = ExperimentsFolder(tmp_path, QUIET)
    assert folder.claim("a") is not None
    assert folder.claim("a") is None
    assert folder.states([unit("a")]) == {"a": "leased"}
    age(folder.run("a") / "lease.json", STALE)
    assert folder.states([unit("a")]) == {"a": "waiting"}
    assert folder.claim("a") is not None
    assert [path.name for path in tmp_path.iterdir()] == ["runs"]  # the clock leaves nothing behind
