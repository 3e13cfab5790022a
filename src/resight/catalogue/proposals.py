"""Values that a model proposes for what nobody has said: written, listed, and what the ledger says of them.

A proposal counts in matching and is never a label. What a person has accepted or corrected is not proposed for any
more, and a value that a person has rejected is not proposed again; see :mod:`resight.catalogue.deciding`.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from sqlalchemy import (
    ColumnElement,
    Connection,
    Select,
    and_,
    bindparam,
    case,
    delete,
    func,
    insert,
    or_,
    select,
)

from resight.catalogue import schema
from resight.catalogue.blocks import by_blocks
from resight.catalogue.store import NO_PART
from resight.errors import InputError, UnknownName

FIELDS = ("species", "part", "viewpoint", "quality")
ACCEPT, CORRECT, REJECT = "accept", "correct", "reject"
UNKNOWN = "unknown"
"""What a person corrects a value to that cannot be told from the photo."""

# What a note of the ledger says was settled, such as "viewpoint left, proposed 0.97 by viewpoint-1a2b3c4d".
_SAID = re.compile(r"(?:^|; )(species|part|viewpoint|quality) (.+?), (?:proposed|instead of|by hand)")


@dataclass(frozen=True, slots=True)
class Proposal:
    """One proposed value.

    Attributes:
        annotation_id: Whose.
        field: species, part, viewpoint or quality.
        value: As text; a part may be ``whole``, which is the animal and not a part of it.
        confidence: How sure the model is, from 0 to 1.
        model: Name of the head.
    """

    annotation_id: str
    field: str
    value: str
    confidence: float
    model: str


@dataclass(frozen=True, slots=True)
class ListedProposal(Proposal):
    """A proposal with what it is about; ``species`` is what is stated of the animal or, failing that, proposed."""

    species: str | None
    source: str
    file_name: str
    at_utc: str


@dataclass(frozen=True)
class ProposalFilter:
    """Which proposals are meant; every condition that is given must hold.

    Attributes:
        field: species, part, viewpoint or quality.
        value: What is proposed.
        least_confidence: At least this sure.
        most_confidence: At most this sure.
        species: Of annotations of this species, stated or proposed.
        source: Of annotations of this source.
        model: Of this head.
        annotation_ids: Of these annotations.
    """

    field: str | None = None
    value: str | None = None
    least_confidence: float | None = None
    most_confidence: float | None = None
    species: str | None = None
    source: str | None = None
    model: str | None = None
    annotation_ids: Collection[str] | None = None

    def __post_init__(self) -> None:
        """Check the field and the confidences.

        Raises:
            UnknownName: no such field.
            InputError: a confidence that is none.
        """
        if self.field is not None:
            UnknownName.require("attribute", [self.field], FIELDS)
        for bound in (self.least_confidence, self.most_confidence):
            if bound is not None and not 0.0 <= bound <= 1.0:
                raise InputError(f"confidence {bound:g}: expected a number from 0 to 1")


@dataclass(frozen=True)
class Replaced:
    """What writing proposals did: rows that are new, that changed, that are as they were, and that went."""

    added: int
    changed: int
    unchanged: int
    removed: int


def replace_proposals(
    connection: Connection, field: str, proposals: Sequence[Proposal], asked: Iterable[str]
) -> Replaced:
    """Write what a head proposes; of the annotations it was asked about and proposes nothing for, older ones go.

    Args:
        connection: From :meth:`Database.writing`.
        field: Of all the proposals.
        proposals: At most one an annotation, of annotations in ``asked``.
        asked: Ids of the annotations.
    """
    table, moment = schema.proposals, now()
    wanted = {proposal.annotation_id: proposal for proposal in proposals}
    before: dict[str, Any] = {}
    rows: dict[str, int] = {}
    a = schema.annotation_table.c
    for block in by_blocks(asked):
        query = (
            select(a.id, a.key, table.c.value, table.c.confidence, table.c.model)
            .select_from(schema.annotation_table)
            .outerjoin(table, and_(table.c.annotation_id == a.id, table.c.field == field))
            .where(a.key.in_(block))
        )
        for row in connection.execute(query):
            rows[row.key] = row.id
            if row.value is not None:
                before[row.key] = row
    fresh = [key for key in wanted if key in rows and key not in before]
    differing = [
        key
        for key, row in before.items()
        if key in wanted
        and (row.value, row.confidence, row.model) != (wanted[key].value, wanted[key].confidence, wanted[key].model)
    ]
    gone = [key for key in before if key not in wanted]
    delete_proposals(connection, [(rows[key], field) for key in (*gone, *differing)])
    written = [
        {
            "annotation_id": rows[key],
            "field": field,
            "value": wanted[key].value,
            "confidence": wanted[key].confidence,
            "model": wanted[key].model,
            "at_utc": moment,
        }
        for key in (*fresh, *differing)
    ]
    if written:
        connection.execute(insert(table), written)
    return Replaced(len(fresh), len(differing), len(before) - len(gone) - len(differing), len(gone))


def list_proposals(
    connection: Connection,
    which: ProposalFilter = ProposalFilter(),
    *,
    limit: int | None = None,
) -> list[ListedProposal]:
    """The proposals that count, the least sure first; one for what somebody has said since does not."""
    found = [ListedProposal(*row[1:10]) for row in open_proposals(connection, which)]
    found.sort(key=lambda one: (one.confidence, one.annotation_id, one.field))
    return found[:limit]


def count_proposals(connection: Connection) -> dict[str, dict[str, int]]:
    """Field → value → proposals that count."""
    p = schema.proposals.c
    query = _joined(select(p.field, p.value, func.count().label("count"))).group_by(p.field, p.value)
    counts: dict[str, dict[str, int]] = defaultdict(dict)
    for row in connection.execute(query.order_by(p.field, p.value)):
        counts[row.field][row.value] = row._mapping["count"]
    return dict(counts)


def settled(connection: Connection, field: str) -> dict[str, str]:
    """Annotation id → what a person has accepted or corrected a field to, were it to unknown; the last word counts."""
    return {key: value for key, name, value in _said(connection, (ACCEPT, CORRECT)) if name == field}


def rejected(connection: Connection, field: str) -> dict[str, set[str]]:
    """Annotation id → values of a field that a person has said it does not have."""
    values: dict[str, set[str]] = defaultdict(set)
    for key, name, value in _said(connection, (REJECT,)):
        if name == field:
            values[key].add(value)
    return dict(values)


_A = schema.annotation_table.c
STATE = (
    _A.id, _A.key, _A.species.label("stated_species"), _A.viewpoint, _A.quality, _A.individual_id,
)  # fmt: skip


def open_proposals(connection: Connection, which: ProposalFilter) -> Iterator[Any]:
    """Proposals that count, with what is stated of their annotations, in the order of the annotations' keys."""
    p, s = schema.proposals.c, schema.sources.c
    query = _joined(
        select(
            _A.id, _A.key, p.field, p.value, p.confidence, p.model, _SPECIES.label("species"), s.name, _A.file_name,
            p.at_utc, *STATE[2:],
        )
    ).order_by(_A.key, p.field)  # fmt: skip
    conditions: list[tuple[object, Callable[[Any], ColumnElement[bool]]]] = [
        (which.field, lambda value: p.field == value),
        (which.value, lambda value: p.value == value),
        (which.least_confidence, lambda value: p.confidence >= value),
        (which.most_confidence, lambda value: p.confidence <= value),
        (which.species, lambda value: value == _SPECIES),
        (which.source, lambda value: s.name == value),
        (which.model, lambda value: p.model == value),
    ]
    for value, condition in conditions:
        if value is not None:
            query = query.where(condition(value))
    if which.annotation_ids is None:
        yield from connection.execute(query)
        return
    for block in by_blocks(sorted(which.annotation_ids)):
        yield from connection.execute(query.where(_A.key.in_(block)))


_PROPOSED_SPECIES = schema.proposals.alias("proposed_species")
_PROPOSED_PART = schema.proposals.alias("proposed_part")
_BASE = func.coalesce(_A.species, _PROPOSED_SPECIES.c.value)
# As the store puts species and part together.
_SPECIES = case(
    (or_(_BASE.like("%+%"), _PROPOSED_PART.c.value.is_(None), _PROPOSED_PART.c.value == NO_PART), _BASE),
    else_=_BASE + "+" + _PROPOSED_PART.c.value,
)


def _joined(query: Select[Any]) -> Select[Any]:
    """Proposals with their annotations and sources, without those for what somebody has said since."""
    p = schema.proposals.c
    return (
        query.select_from(schema.proposals)
        .join(schema.annotation_table, p.annotation_id == _A.id)
        .join(schema.sources, _A.source_id == schema.sources.c.id)
        .outerjoin(
            _PROPOSED_SPECIES,
            and_(_PROPOSED_SPECIES.c.annotation_id == _A.id, _PROPOSED_SPECIES.c.field == "species"),
        )
        .outerjoin(_PROPOSED_PART, and_(_PROPOSED_PART.c.annotation_id == _A.id, _PROPOSED_PART.c.field == "part"))
        .where(
            or_(
                and_(p.field == "species", _A.species.is_(None)),
                and_(p.field == "part", or_(_A.species.is_(None), _A.species.not_like("%+%"))),
                and_(p.field == "viewpoint", _A.viewpoint.is_(None)),
                and_(p.field == "quality", _A.quality.is_(None)),
            )
        )
    )


def _said(connection: Connection, actions: Sequence[str]) -> Iterator[tuple[str, str, str]]:
    """Annotation key, field and value of everything that the ledger says of attributes under these actions."""
    c = schema.ledger.c
    for row in connection.execute(select(c.annotation_key, c.note).where(c.action.in_(actions)).order_by(c.id)):
        for found in _SAID.finditer(row.note or ""):
            yield row.annotation_key, found[1], found[2]


def grade_text(quality: float) -> str:
    """A grade as the value of a proposal, in few digits where they are enough."""
    short = f"{quality:g}"
    return short if float(short) == quality else repr(quality)


def delete_proposals(connection: Connection, rows: Sequence[tuple[int, str]]) -> None:
    """Take proposals away, each named by the row id of its annotation and its field."""
    c = schema.proposals.c
    if rows:
        connection.execute(
            delete(schema.proposals).where(c.annotation_id == bindparam("annotation"), c.field == bindparam("of")),
            [{"annotation": annotation, "of": field} for annotation, field in rows],
        )


def now() -> str:
    """The time as the catalogue writes it."""
    return datetime.now(UTC).isoformat(timespec="seconds")
