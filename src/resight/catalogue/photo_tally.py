"""What an import of raw photos counts on the way: files by what became of them, cameras, clocks, problems."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import timedelta

from resight.catalogue.clocks import WrongClocks, clock_of, shown, taken_at
from resight.catalogue.photo_blocks import Outcome, Row
from resight.catalogue.sources.values import show
from resight.types import Problem, Severity


@dataclass(frozen=True)
class Camera:
    """A camera of an import.

    Attributes:
        camera: Its name, ``None`` for all photos that tell none.
        photos: How many it took.
        first: The earliest time that it showed, ISO 8601, ``None`` where it told none.
        last: The latest.
        offset: What ``[clocks]`` adds to its time, such as ``+01:00:00``; ``None`` where nothing, ``by folder`` where
            that differs from folder to folder.
    """

    camera: str | None
    photos: int
    first: str | None
    last: str | None
    offset: str | None


@dataclass
class _CameraTally:
    photos: int = 0
    first: str | None = None
    last: str | None = None
    offsets: set[str | None] = field(default_factory=set)


@dataclass
class Tally:
    """Everything that is counted on the way."""

    kinds: Counter[str] = field(default_factory=Counter)
    problems: list[Problem] = field(default_factory=list)
    of_camera: dict[str | None, _CameraTally] = field(default_factory=dict)
    wrong_clocks: WrongClocks = field(default_factory=WrongClocks.none_yet)
    at_zero: int = 0
    without_time: int = 0
    frames: int = 0
    known_videos: int = 0
    unseen_videos: int = 0
    replaced: int = 0
    timed: int = 0
    named: int = 0

    def count(self, outcome: Outcome, clocks: Mapping[str, timedelta]) -> None:
        """Count a file."""
        self.kinds[outcome.kind] += 1
        self.at_zero += outcome.at_zero
        self.replaced += outcome.replaces
        if outcome.problem is not None:
            severity: Severity = "quarantined" if outcome.kind == "quarantined" else "refused"
            name = show(outcome.path)
            self.problems.append(Problem(name, "image", name, outcome.problem, severity))
        if outcome.kind not in ("copy", "skipped", "quarantined"):
            self.without_time += outcome.row["camera_time"] is None and outcome.row["taken_at"] is None
            self.count_camera(outcome.row, outcome.path, clocks)

    def count_camera(self, row: Row, path: str, clocks: Mapping[str, timedelta]) -> None:
        """Count a photo for its camera and its clock."""
        camera = self.of_camera.setdefault(row["camera"], _CameraTally())
        camera.photos += 1
        clock = clock_of(row["camera"], path, clocks)
        camera.offsets.add(None if clock is None else shown(clock.offset))
        showed = row["camera_time"]
        if showed is None:
            return
        camera.first = showed if camera.first is None else min(camera.first, showed)
        camera.last = showed if camera.last is None else max(camera.last, showed)
        if taken_at(showed, clock) is None:
            self.wrong_clocks.count(row["camera"], path, showed)

    def refuse_video(self, path: str, problem: str) -> None:
        """Count a video of which nothing could be taken."""
        self.kinds["skipped"] += 1
        self.problems.append(Problem(show(path), "video", show(path), problem))

    def cameras(self) -> tuple[Camera, ...]:
        """The cameras, the one with most photos first."""
        ordered = sorted(self.of_camera.items(), key=lambda item: (-item[1].photos, item[0] or ""))
        return tuple(
            Camera(
                name,
                found.photos,
                found.first,
                found.last,
                next(iter(found.offsets)) if len(found.offsets) == 1 else "by folder",
            )
            for name, found in ordered
        )

    def notes(self) -> Iterable[str]:
        """Lines for the user."""
        if self.kinds["copy"]:
            yield f"{self.kinds['copy']:,} files are copies of photos that are in the catalogue; they add nothing"
        if self.replaced:
            yield (
                f"{self.replaced:,} files hold another picture than when they were imported, and stand in its place; "
                "the earlier ones are in the catalogue only where they lie elsewhere"
            )
        if self.timed:
            yield f"{self.timed:,} photos that were known have another time now, by [clocks] in resight.toml"
        if self.named:
            yield f"{self.named:,} animals that were found before have the species of their photos now"
        yield from self.wrong_clocks.notes()
        if self.without_time:
            yield f"{self.without_time:,} photos do not tell when they were taken, so they are in no encounter by rule"
        if self.at_zero:
            yield f"{self.at_zero:,} photos are placed at 0 N 0 E, as by receivers without a fix; it is not used"
        if self.known_videos:
            yield (
                f"{self.known_videos:,} videos are known by their content, and no frames were taken anew: those stay "
                "that were taken first, however far apart"
            )
        if self.unseen_videos:
            yield f"{self.unseen_videos:,} new videos; their frames are counted when they are taken"
