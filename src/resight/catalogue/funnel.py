"""The funnel: how many photos and animals get how far on the way from a card to a name, and why the others do not.

Photos come in, can be read, and show animals; from there on annotations are counted: their species is known, and their
viewpoint where it matters; no rule leaves them out; a model has made their vector, they were compared with others, and
they bear a name. The funnel is strict: what falls out at one step is not counted at a later one, so the counts of a
step and of all that fell out before add up. What holds without regard to the steps before stands beside, since a
dataset that came with names was never compared.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Set
from dataclasses import dataclass, field
from typing import Any, Literal, NamedTuple

from sqlalchemy import Connection, func, select

from resight.catalogue import comparisons, measuring, schema, store
from resight.catalogue.policy import separates_sides
from resight.errors import UnknownName
from resight.settings import Only, Settings
from resight.types import Annotation

Unit = Literal["photos", "annotations"]

PHOTO_STEPS = ("photos", "readable", "detected")
ANNOTATION_STEPS = ("annotations", "species", "viewpoint", "quality", "embedded", "compared", "identified")
STEPS = (*PHOTO_STEPS, *ANNOTATION_STEPS)
BY_POLICY = "viewpoint policy"


@dataclass(frozen=True)
class Step:
    """One step.

    Attributes:
        name: One of :data:`STEPS`.
        unit: What is counted.
        count: Those that passed this step and all before it.
        fell_out: Those that came here and did not pass; 0 at the first step of a unit.
        reasons: Why → how many of these, the commonest first.
        in_all: Those to which the step applies and that meet it, without regard to the steps before.
        proposed: Those of ``count`` that passed by a value which a model proposed and nobody has accepted.
        not_asked: Those of ``count`` of which the step asks nothing: the viewpoint where the sides do not matter, the
            quality of what nobody has measured.
    """

    name: str
    unit: Unit
    count: int
    fell_out: int
    reasons: Mapping[str, int]
    in_all: int
    proposed: int = 0
    not_asked: int = 0


@dataclass(frozen=True)
class Funnel:
    """All steps in order, for one model.

    Attributes:
        model: Whose vectors and comparisons count; ``None`` where there is none.
        steps: The steps, photos first.
    """

    model: str | None
    steps: tuple[Step, ...]


@dataclass(frozen=True, slots=True)
class FellOut:
    """One photo or annotation that fell out.

    Attributes:
        id: Key of the annotation, or of the image inside the catalogue.
        file_name: As the source has it; of a raw photo, its path below the image root.
        source: Name of the source; ``None`` where a photo has none.
        species: What is known of it.
        reason: Why, in full.
    """

    id: str
    file_name: str
    source: str | None
    species: str | None
    reason: str


@dataclass(frozen=True)
class Camera:
    """One camera by the name its photos bear.

    Attributes:
        camera: ``None`` gathers the photos that name none.
        photos: How many there are.
        first: The earliest time as the camera had it; ``None`` where no photo bears one.
        last: The latest.
        without_time: Photos whose time is not known, or is none that a clock which was set can show.
    """

    camera: str | None
    photos: int
    first: str | None
    last: str | None
    without_time: int


def funnel(connection: Connection, settings: Settings, *, model: str | None, embedded: Set[str] | None) -> Funnel:
    """Count every step.

    Args:
        connection: From :meth:`Database.reading`.
        settings: Viewpoint policy and quality rules.
        model: Whose vectors and comparisons count; ``None`` counts comparisons of any model.
        embedded: Annotations of which that model has made a vector; ``None`` where nobody has looked, as if none had.
    """
    photos = (_photo_state(row) for row in _photos(connection))
    animals = (state for _, state in _animals(connection, settings, model, embedded))
    steps = (*_tallied("photos", PHOTO_STEPS, photos), *_tallied("annotations", ANNOTATION_STEPS, animals))
    return Funnel(model, steps)


def who_fell_out(
    connection: Connection, settings: Settings, step: str, *, model: str | None, embedded: Set[str] | None
) -> Iterator[FellOut]:
    """Everything that fell out at one step, photos by their path and annotations by their key.

    Args:
        connection: From :meth:`Database.reading`, open for as long as there is more to come.
        settings: As for :func:`funnel`.
        step: One of :data:`STEPS`.
        model: As for :func:`funnel`.
        embedded: As for :func:`funnel`.

    Raises:
        UnknownName: there is no such step.
    """
    UnknownName.require("step", [step], STEPS)
    if step in PHOTO_STEPS:
        return _fallen_photos(connection, step)
    return _fallen_animals(_animals(connection, settings, model, embedded), step)


def filtered(connection: Connection, settings: Settings) -> Iterator[FellOut]:
    """Every annotation that a quality rule leaves out, with the rule, however far else it would get."""
    for one in store.list_annotations(connection, settings, unnamed=True):
        if one.filtered is not None:
            yield FellOut(one.annotation_id, one.file_name, one.source, one.species, one.filtered)


def cameras(connection: Connection) -> list[Camera]:
    """The cameras of all raw photos and of all others that name theirs, by name; photos that name none come last."""
    i = schema.images.c
    query = (
        select(
            i.camera, func.count().label("photos"), func.min(i.camera_time).label("first"),
            func.max(i.camera_time).label("last"), (func.count() - func.count(i.taken_at)).label("without_time"),
        )
        .where(i.source_id.is_not(None) | i.camera.is_not(None))
        .group_by(i.camera)
    )  # fmt: skip
    found = [Camera(r.camera, r.photos, r.first, r.last, r.without_time) for r in connection.execute(query)]
    return sorted(found, key=lambda one: (one.camera is None, one.camera or ""))


class _Verdict(NamedTuple):
    """What one step says of one photo or annotation.

    Attributes:
        step: Its name.
        reason: Why it does not pass; ``None`` where it does.
        is_asked: Whether the step applies at all.
        is_proposed: Whether it passes by a proposed value.
    """

    step: str
    reason: str | None
    is_asked: bool = True
    is_proposed: bool = False


class _PhotoState(NamedTuple):
    """All that decides how far a photo gets."""

    can_be_read: bool
    was_looked_at: bool
    has_animal: bool

    def verdicts(self) -> Iterator[_Verdict]:
        """What each step says, in order."""
        yield _Verdict("photos", None)
        yield _Verdict("readable", None if self.can_be_read else "cannot be read")
        empty = "no animal found" if self.was_looked_at else "no detector has looked"
        yield _Verdict("detected", None if self.has_animal else empty)


class _AnimalState(NamedTuple):
    """All that decides how far an annotation gets.

    Attributes:
        can_be_read: Whether its photo can.
        is_named: Whether its species is known.
        is_seen: Whether its viewpoint is.
        sides_matter: Whether the step asks for it.
        proposed: Which of its values are proposals.
        left_out: What leaves it out, or ``None``.
        is_measured: Whether the quality rules have numbers to look at.
        no_vector: Why it has no vector, or ``None``.
        not_compared: Why it was compared with none, or ``None``.
        has_name: Whether its individual is known.
    """

    can_be_read: bool
    is_named: bool
    is_seen: bool
    sides_matter: bool
    proposed: frozenset[str]
    left_out: str | None
    is_measured: bool
    no_vector: str | None
    not_compared: str | None
    has_name: bool

    def verdicts(self) -> Iterator[_Verdict]:
        """What each step says, in order."""
        yield _Verdict("annotations", None if self.can_be_read else "photo cannot be read")
        named = None if self.is_named else "species unknown"
        yield _Verdict("species", named, is_proposed="species" in self.proposed)
        asked = self.sides_matter
        seen = None if self.is_seen or not asked else "viewpoint unknown"
        yield _Verdict("viewpoint", seen, is_asked=asked, is_proposed=asked and "viewpoint" in self.proposed)
        yield _Verdict("quality", self.left_out, is_asked=self.is_measured)
        yield _Verdict("embedded", self.no_vector)
        yield _Verdict("compared", self.not_compared)
        yield _Verdict("identified", None if self.has_name else "no individual")


_State = _PhotoState | _AnimalState


@dataclass
class _Tally:
    """What was counted of one step so far."""

    count: int = 0
    in_all: int = 0
    proposed: int = 0
    not_asked: int = 0
    reasons: Counter[str] = field(default_factory=Counter)


def _tallied(unit: Unit, names: Iterable[str], states: Iterable[_State]) -> Iterator[Step]:
    """The steps of a unit; there are few different states, so each is judged once."""
    tallies = {name: _Tally() for name in names}
    for state, n in Counter(states).items():
        fell_out = False
        for verdict in state.verdicts():
            tally = tallies[verdict.step]
            if verdict.reason is None:
                tally.in_all += n if verdict.is_asked else 0
            if fell_out:
                continue
            if verdict.reason is None:
                tally.count += n
                tally.proposed += n if verdict.is_proposed else 0
                tally.not_asked += 0 if verdict.is_asked else n
            else:
                tally.reasons[verdict.reason] += n
                fell_out = True
    for name, tally in tallies.items():
        reasons = dict(sorted(tally.reasons.items(), key=lambda item: (-item[1], item[0])))
        fell = tally.reasons.total()
        yield Step(name, unit, tally.count, fell, reasons, tally.in_all, tally.proposed, tally.not_asked)


def _reason_at(state: _State, step: str) -> str | None:
    """Why this falls out at the step; ``None`` where it does not, or did so before."""
    for verdict in state.verdicts():
        if verdict.reason is not None:
            return verdict.reason if verdict.step == step else None
    return None


def _photo_state(row: Any) -> _PhotoState:
    return _PhotoState(row.status != "quarantined", row.detector is not None, row.holds is not None)


def _photos(connection: Connection) -> Iterator[Any]:
    """Rows of photos, by their path."""
    i, s, a = schema.images.c, schema.sources.c, schema.annotation_table.c
    # One of a labelled dataset bears no source of its own: it has that of its annotations.
    holding = select(a.image_id, func.min(a.source_id).label("source_id")).group_by(a.image_id).subquery("holding")
    query = (
        select(
            i.id, i.path, i.status, i.problem, s.name.label("source"), i.species, i.detector, i.detector_best,
            holding.c.image_id.label("holds"),
        )
        .select_from(schema.images)
        .outerjoin(holding, holding.c.image_id == i.id)
        .outerjoin(schema.sources, s.id == func.coalesce(i.source_id, holding.c.source_id))
        .order_by(i.root, i.path)
    )  # fmt: skip
    return iter(connection.execute(query))


def _fallen_photos(connection: Connection, step: str) -> Iterator[FellOut]:
    for row in _photos(connection):
        reason = _reason_at(_photo_state(row), step)
        if reason is None:
            continue
        if row.status == "quarantined":
            reason = row.problem or reason
        elif row.detector is not None:
            best = "" if row.detector_best is None else f" (best {row.detector_best:.2f})"
            reason = f"{reason} by {row.detector}{best}"
        yield FellOut(str(row.id), row.path, row.source, row.species, reason)


def _animals(
    connection: Connection, settings: Settings, model: str | None, embedded: Set[str] | None
) -> Iterator[tuple[Annotation, _AnimalState]]:
    """Annotations by their key, each with what decides how far it gets."""
    policies = store.policies(connection, settings)
    asking = {name for name, policy in policies.items() if separates_sides(policy) or isinstance(policy, Only)}
    compared = comparisons.compared_with(connection, model)
    measured = measuring.measured_keys(connection)
    vectors = embedded or frozenset()
    no_vector = "no vector" if model is None else f"no vector of {model}"
    for one in store.list_annotations(connection, settings, unnamed=True):
        key = one.annotation_id
        n_compared = compared.get(key)
        not_compared = None if n_compared else "never compared" if n_compared is None else "compared with nothing"
        yield (
            one,
            _AnimalState(
                one.image_status != "quarantined",
                one.species is not None,
                one.viewpoint is not None,
                one.species in asking,
                one.proposed,
                one.filtered or (None if one.allowed else BY_POLICY),
                key in measured,
                None if key in vectors else no_vector,
                not_compared,
                one.individual is not None,
            ),
        )


def _fallen_animals(animals: Iterable[tuple[Annotation, _AnimalState]], step: str) -> Iterator[FellOut]:
    for one, state in animals:
        reason = _reason_at(state, step)
        if reason is not None:
            yield FellOut(one.annotation_id, one.file_name, one.source, one.species, reason)
