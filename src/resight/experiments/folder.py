"""The folder that the workers of an experiment share: where its files lie, and who works on what.

::

    experiments/
      plans/NAME.json         what to do: the units, in the order in which they are done
      sides/KEY/              a test side and where its chips lie
      runs/KEY/               a training job or a model, and what comes of it
      runs/KEY/lease.json     who works on it; touched while the work goes on
      runs/KEY/done.json      written last
      runs/KEY/failed.json    why it failed, until it is tried again

A lease is made by a call that fails where the file exists, so one worker has it. It is stale when it was not touched
for a while, judged by the file system's own clock, since machines' clocks differ. Of the workers that find it stale one
moves it away and makes its own.
"""

from __future__ import annotations

import json
import logging
import os
import re
import socket
import tempfile
import threading
import uuid
from collections.abc import Collection, Iterable, Mapping
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal

from resight.artefacts import write_json
from resight.errors import InputError, ResightError, UnknownName
from resight.experiments.sides import SIDE_FILE
from resight.models.config import CONFIG_FILE
from resight.models.library import MODEL_FOLDER

logger = logging.getLogger(__name__)

LEASE_FILE, DONE_FILE, FAILED_FILE = "lease.json", "done.json", "failed.json"

State = Literal["waiting", "leased", "done", "failed", "blocked"]

_TICKET = ".lease.taking"
_KEY = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")


class LeaseLost(ResightError):
    """Another worker has taken the lease over, since it was not renewed in time."""


@dataclass(frozen=True)
class Pace:
    """Of leases, in seconds.

    Attributes:
        beat_seconds: A lease is touched so often.
        stale_seconds: A lease that was not touched for so long may be taken over; network folders may show a time that
            is a minute old.
        poll_seconds: A worker that waits for others looks so often.
    """

    beat_seconds: float = 15.0
    stale_seconds: float = 90.0
    poll_seconds: float = 5.0


@dataclass(frozen=True)
class UnitTest:
    """A side that a unit embeds, and the species of it that are wanted."""

    __test__ = False  # no test class, whatever pytest makes of its name

    key: str
    species: tuple[str, ...]


@dataclass(frozen=True)
class Unit:
    """One run of a plan, as workers see it.

    Attributes:
        key: Of its folder.
        label: What it is within its experiment.
        split: Name of the split.
        seed: Of the split and the recipe.
        needs: Key of the unit whose model it starts from.
        trains: Whether it trains; else its model is there.
        tests: What it embeds.
        training_images: Images that go through the network in training.
    """

    key: str
    label: str
    split: str
    seed: int
    needs: str | None
    trains: bool
    tests: tuple[UnitTest, ...]
    training_images: int

    @property
    def title(self) -> str:
        """For a line to the reader."""
        return f"{self.label} (split {self.split}, seed {self.seed})"

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> Unit:
        """Build from the plan's file; keys that workers do not read are ignored.

        Raises:
            KeyError, TypeError, ValueError: a value is missing or of another kind.
        """
        tests = tuple(UnitTest(_checked_key(one["key"]), tuple(map(str, one["species"]))) for one in values["tests"])
        return cls(
            key=_checked_key(values["key"]),
            label=str(values["label"]),
            split=str(values["split"]),
            seed=int(values["seed"]),
            needs=None if values["needs"] is None else str(values["needs"]),
            trains=bool(values["trains"]),
            tests=tests,
            training_images=int(values["training_images"]),
        )


@dataclass(frozen=True)
class WorkPlan:
    """A plan as workers see it: a unit comes after the one that it needs."""

    name: str
    experiment: str
    units: tuple[Unit, ...]


@dataclass(frozen=True)
class Done:
    """What ``done.json`` says.

    Attributes:
        seconds: Training, whichever workers did it, and embedding.
        images_per_second: Of training; ``None`` where nothing is trained.
        epochs: Trained.
        weights_hash: Of the model.
        made_by: Version, runtime and device of the worker that finished it.
    """

    seconds: float
    images_per_second: float | None
    epochs: int
    weights_hash: str
    made_by: str


class ExperimentsFolder:
    """The ``experiments/`` folder of a project.

    Args:
        path: Need not exist.
        pace: Of leases; the same for all who share the folder.
    """

    def __init__(self, path: Path, pace: Pace | None = None) -> None:
        self.path = path
        self.pace = pace or Pace()

    @property
    def runs(self) -> Path:
        """Holds a folder a run."""
        return self.path / "runs"

    def plan(self, name: str) -> Path:
        """The file of a plan."""
        return self.path / "plans" / f"{name}.json"

    def side(self, key: str) -> Path:
        """The folder of a test side."""
        return self.path / "sides" / key

    def run(self, key: str) -> Path:
        """The folder of a run."""
        return self.runs / key

    def model(self, key: str) -> Path:
        """The folder of a run's model."""
        return self.run(key) / MODEL_FOLDER

    def has_side(self, key: str) -> bool:
        """Whether a test side is written."""
        return (self.side(key) / SIDE_FILE).is_file()

    def has_job(self, key: str) -> bool:
        """Whether a run has its training job."""
        from resight.training.plan import PLAN_FILE  # imports torch, which who reads results does without

        return (self.run(key) / PLAN_FILE).is_file()

    def has_model(self, key: str) -> bool:
        """Whether a run has a model; that of a run that trains may be of an attempt that was stopped."""
        return (self.model(key) / CONFIG_FILE).is_file()

    def is_done(self, key: str) -> bool:
        """Whether a run is finished, model and vectors."""
        return (self.run(key) / DONE_FILE).is_file()

    def read_plan(self, name: str) -> WorkPlan:
        """Read ``plans/NAME.json``.

        Raises:
            UnknownName: there is no such plan.
            InputError: it is broken, or a unit needs one that does not come before it.
        """
        path = self.plan(name)
        try:
            values = json.loads(path.read_text(encoding="utf-8"))
            plan = WorkPlan(name, str(values["experiment"]), tuple(Unit.from_json(one) for one in values["units"]))
        except FileNotFoundError:
            known = [other.stem for other in path.parent.glob("*.json")]
            remedy = "resight experiment EXPERIMENT --plan-only writes one"
            raise UnknownName.among("plan", name, known, remedy) from None
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise InputError(
                f"{path} is no plan of an experiment ({type(error).__name__}: {error}): write it anew (--plan-only)"
            ) from None
        before: set[str] = set()
        for unit in plan.units:
            if unit.needs is not None and unit.needs not in before:
                raise InputError(
                    f"{path}: {unit.title} needs {unit.needs}, which does not come before it: write the plan anew "
                    "(--plan-only)"
                )
            before.add(unit.key)
        return plan

    def write_done(self, key: str, done: Done) -> None:
        """Say that a run is finished; nothing is written after it."""
        write_json(self.run(key) / DONE_FILE, asdict(done))

    def read_done(self, key: str) -> Done:
        """Read what a finished run says of itself.

        Raises:
            InputError: it is not finished, or its file is broken.
        """
        path = self.run(key) / DONE_FILE
        try:
            return Done(**json.loads(path.read_text(encoding="utf-8")))
        except (OSError, ValueError, TypeError) as error:
            raise InputError(f"{path} cannot be read ({error}): delete it and run the experiment again") from None

    def write_failure(self, key: str, error: str) -> None:
        """Say why a run failed, in one line."""
        now = datetime.now(UTC).isoformat(timespec="seconds")
        write_json(self.run(key) / FAILED_FILE, {"error": error, "at_utc": now})

    def read_failure(self, key: str) -> str | None:
        """Why a run failed; ``None`` where it did not, or is being tried again."""
        try:
            return str(json.loads((self.run(key) / FAILED_FILE).read_text(encoding="utf-8"))["error"])
        except (OSError, ValueError, KeyError, TypeError):
            return None

    def forget_failure(self, key: str) -> None:
        """The run is tried again."""
        (self.run(key) / FAILED_FILE).unlink(missing_ok=True)

    def states(self, units: Iterable[Unit], *, since_ns: int = 0, failed: Collection[str] = ()) -> dict[str, State]:
        """What there is to do.

        ``blocked`` is a unit that needs one that failed or is blocked; ``waiting`` one that nobody works on.

        Args:
            units: Of a plan, in its order.
            since_ns: Failures from before that time, of :meth:`clock_ns`, do not count: they are to be tried again.
            failed: Keys of units that count as failed all the same.

        Returns:
            A state a key.
        """
        states: dict[str, State] = {}
        now_ns: int | None = None
        for unit in units:
            run = self.run(unit.key)
            if self.is_done(unit.key):
                states[unit.key] = "done"
            elif unit.needs is not None and states.get(unit.needs) in ("failed", "blocked"):
                states[unit.key] = "blocked"
            elif (touched := _touched_ns(run / LEASE_FILE)) is not None:
                now_ns = self.clock_ns() if now_ns is None else now_ns
                states[unit.key] = "waiting" if self._is_stale(touched, now_ns) else "leased"
            elif unit.key in failed or (_touched_ns(run / FAILED_FILE) or 0) > since_ns:
                states[unit.key] = "failed"
            else:
                states[unit.key] = "waiting"
        return states

    def clock_ns(self) -> int:
        """The file system's time: that of a file touched now."""
        self.path.mkdir(parents=True, exist_ok=True)
        with tempfile.NamedTemporaryFile(dir=self.path, prefix=".clock-") as file:
            os.utime(file.fileno())
            return os.fstat(file.fileno()).st_mtime_ns

    def claim(self, key: str) -> Lease | None:
        """Take the lease of a run, where nobody has it or whoever had it shows no life.

        Returns:
            The lease, whose heart beats until it is released; ``None`` where another worker has it.
        """
        path = self.run(key) / LEASE_FILE
        path.parent.mkdir(parents=True, exist_ok=True)
        token = uuid.uuid4().hex
        touched = _touched_ns(path)
        if touched is None:
            taken = _create(path, token)
        else:
            taken = self._is_stale(touched, self.clock_ns()) and self._take_over(path, token)
        return Lease(path, token, self.pace.beat_seconds) if taken else None

    def _take_over(self, path: Path, token: str) -> bool:
        # One at a time, or a second worker would move away the lease that the first has just made.
        ticket = path.with_name(_TICKET)
        if not _create(ticket, token):
            touched = _touched_ns(ticket)
            if touched is not None and self._is_stale(touched, self.clock_ns()):
                ticket.unlink(missing_ok=True)  # of a worker that died right here; the next look takes the lease
            return False
        try:
            found, touched = _token_in(path), _touched_ns(path)
            if touched is not None:
                if not self._is_stale(touched, self.clock_ns()) or not _move_away(path, found):
                    return False
                logger.info("%s: whoever worked on it shows no life; taken over", path.parent.name)
            return _create(path, token)
        finally:
            ticket.unlink(missing_ok=True)

    def _is_stale(self, touched_ns: int, now_ns: int) -> bool:
        return now_ns - touched_ns > self.pace.stale_seconds * 1e9


class Lease:
    """The right to work on a run; its file is touched by a thread until it is released.

    Args:
        path: Of the lease's file, which is this worker's.
        token: What the file says.
        beat_seconds: Between two touches.
    """

    def __init__(self, path: Path, token: str, beat_seconds: float) -> None:
        self._path = path
        self._token = token
        self._beat_seconds = beat_seconds
        self._over = threading.Event()
        self._lost = False
        self._thread = threading.Thread(target=self._beat, name=f"lease {path.parent.name}", daemon=True)
        self._thread.start()

    def __enter__(self) -> Lease:
        """The lease itself."""
        return self

    def __exit__(self, *_: object) -> None:
        """Release it."""
        self.release()

    def release(self) -> None:
        """Give it back, where it is still this worker's."""
        self._over.set()
        self._thread.join()
        if _token_in(self._path) == self._token:
            _move_away(self._path, self._token)

    def require_held(self) -> None:
        """Touch the lease, and refuse to go on without it.

        Raises:
            LeaseLost: another worker has taken it over.
        """
        if self._lost or not self._touch():
            self._lost = True
            raise LeaseLost(f"another worker has taken over {self._path.parent.name}, since this one stood still")

    def _beat(self) -> None:
        while not self._over.wait(self._beat_seconds):
            try:
                if not self._touch():
                    self._lost = True
                    return
            except OSError as error:  # a network folder that is away for a moment
                logger.debug("%s cannot be touched (%s)", self._path, error)

    def _touch(self) -> bool:
        """Touch the file that was seen to be this worker's, and no other that may take its place."""
        try:
            with self._path.open("r+b") as file:
                own = _token_of(file.read()) == self._token
                if own:
                    os.utime(file.fileno())
                return own
        except FileNotFoundError:
            return False


def _create(path: Path, token: str) -> bool:
    """Make a file that says who made it; ``False`` where it exists."""
    try:
        handle = os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o666)
    except FileExistsError:
        return False
    who = {"token": token, "host": socket.gethostname(), "pid": os.getpid(),
           "since_utc": datetime.now(UTC).isoformat(timespec="seconds")}  # fmt: skip
    with os.fdopen(handle, "w", encoding="utf-8") as file:
        json.dump(who, file)
        file.flush()
        os.utime(file.fileno())
    return True


def _move_away(path: Path, token: str | None) -> bool:
    """Remove a lease with this token, and put back any other that came into its place meanwhile."""
    away = path.with_name(f".{path.name}.{uuid.uuid4().hex}")
    try:
        path.rename(away)
    except FileNotFoundError:
        return False
    try:
        if _token_in(away) == token:
            return True
        try:
            os.link(away, path)
        except OSError as error:  # its owner sees that it has lost it, and the run is done by another
            logger.debug("%s could not be put back (%s)", path, error)
        return False
    finally:
        away.unlink(missing_ok=True)


def _token_in(path: Path) -> str | None:
    """Who made a lease; ``None`` where there is none, or a worker died before it wrote that down."""
    try:
        return _token_of(path.read_bytes())
    except FileNotFoundError:
        return None


def _token_of(content: bytes) -> str | None:
    try:
        return str(json.loads(content)["token"])
    except (ValueError, KeyError, TypeError):
        return None


def _touched_ns(path: Path) -> int | None:
    """When a file was touched; it is opened, so that a network folder asks its server."""
    try:
        with path.open("rb") as file:
            return os.fstat(file.fileno()).st_mtime_ns
    except FileNotFoundError:
        return None


def _checked_key(key: object) -> str:
    if not isinstance(key, str) or _KEY.fullmatch(key) is None:
        raise ValueError(f"{key!r} is no key")
    return key
