"""What a person makes of proposed values, and of any others: accepted, corrected, rejected.

Accepted, a value becomes the annotation's own; corrected, another one does; rejected, the proposal goes. Each is one
row of the ledger for each annotation. All of a call happens in one transaction.
"""

from __future__ import annotations

import math
from collections import Counter, defaultdict
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from itertools import groupby
from typing import Any

from sqlalchemy import Connection, and_, bindparam, insert, select, update

from resight.catalogue import schema
from resight.catalogue.blocks import by_blocks
from resight.catalogue.policy import ViewpointTable, animal_of, part_of
from resight.catalogue.proposals import (
    ACCEPT,
    CORRECT,
    FIELDS,
    REJECT,
    STATE,
    UNKNOWN,
    ProposalFilter,
    delete_proposals,
    grade_text,
    now,
    open_proposals,
)
from resight.catalogue.sources.values import Bad, parse_text
from resight.catalogue.store import NO_PART
from resight.errors import InputError, UnknownName
from resight.settings import CANONICAL_VIEWPOINTS, Settings


@dataclass(frozen=True)
class Decided:
    """What accepting, correcting or rejecting did.

    Attributes:
        annotations: So many have one more row in the ledger.
        values: Value → how many of them were said to have it or, where rejected, not to have it.
        skipped: Reason → how many were meant and left as they are.
    """

    annotations: int
    values: Mapping[str, int]
    skipped: Mapping[str, int]


def accept(connection: Connection, revision: int, which: ProposalFilter, *, actor: str) -> Decided:
    """Make proposed values the annotations' own.

    What cannot be taken over stays proposed and is counted: a part of an animal whose species nobody has said, and a
    species that is not the one of the individual the annotation is of.

    Args:
        connection: From :meth:`Database.writing`.
        revision: The catalogue's new revision number.
        which: The proposals that are meant.
        actor: Who accepts, for the ledger.

    Raises:
        UnknownName: an id in ``which`` that is not in the catalogue.
    """
    _require_annotations(connection, which.annotation_ids)
    deciding = _Deciding(connection, revision, actor, ACCEPT)
    for _, mine in groupby(open_proposals(connection, which), key=lambda row: row.id):
        for row in sorted(mine, key=lambda one: FIELDS.index(one.field)):  # the species before the part
            note = f"{row.field} {row.value}, proposed {row.confidence:.2f} by {row.model}"
            deciding.take(row, row.field, row.value, note)
    return deciding.write()


def correct(
    connection: Connection,
    revision: int,
    annotation_ids: Collection[str],
    field: str,
    value: str,
    *,
    settings: Settings,
    actor: str,
) -> Decided:
    """Say what is so, whether or not something was stated or proposed; what was proposed of the field goes.

    Args:
        connection: From :meth:`Database.writing`.
        revision: The catalogue's new revision number.
        annotation_ids: Of which it is said.
        field: species, part, viewpoint or quality.
        value: In any spelling that an import takes; ``unknown`` where it cannot be told, and nothing is proposed then.
        settings: Whose aliases of viewpoints count.
        actor: Who says so, for the ledger.

    Raises:
        UnknownName: a field or an id that is not there.
        InputError: a value that the field cannot have, a part of an animal of unknown species, or another species than
            that of the individual. Nothing is changed then.
    """
    UnknownName.require("attribute", [field], FIELDS)
    checked = _checked(field, value, settings)
    _require_annotations(connection, annotation_ids)
    deciding = _Deciding(connection, revision, actor, CORRECT)
    a, p = schema.annotation_table.c, schema.proposals
    for block in by_blocks(sorted(set(annotation_ids))):
        query = (
            select(*STATE, p.c.value, p.c.confidence, p.c.model)
            .select_from(schema.annotation_table)
            .outerjoin(p, and_(p.c.annotation_id == a.id, p.c.field == field))
            .where(a.key.in_(block))
            .order_by(a.key)
        )
        for row in connection.execute(query):
            instead = "by hand"
            if row.value is not None:
                instead = f"instead of {row.value} proposed {row.confidence:.2f} by {row.model}"
            deciding.take(row, field, checked, f"{field} {checked or UNKNOWN}, {instead}")
    if deciding.skipped:
        reason, count = max(deciding.skipped.items(), key=lambda entry: entry[1])
        raise InputError(f"{count} of {len(annotation_ids)} annotations cannot be corrected: {reason}")
    return deciding.write()


def reject(connection: Connection, revision: int, which: ProposalFilter, *, actor: str) -> Decided:
    """Take proposals away; the same value is not proposed again for the annotation, by whatever head.

    Args:
        connection: From :meth:`Database.writing`.
        revision: The catalogue's new revision number.
        which: The proposals that are meant.
        actor: Who rejects, for the ledger.

    Raises:
        UnknownName: an id in ``which`` that is not in the catalogue.
    """
    _require_annotations(connection, which.annotation_ids)
    deciding = _Deciding(connection, revision, actor, REJECT)
    for _, mine in groupby(open_proposals(connection, which), key=lambda row: row.id):
        for row in mine:
            note = f"{row.field} {row.value}, proposed {row.confidence:.2f} by {row.model}"
            deciding.take_away(row, row.field, row.value, note)
    return deciding.write()


class _Deciding:
    """Decisions as they come: what becomes of each annotation, and one row of the ledger for it."""

    def __init__(self, connection: Connection, revision: int, actor: str, action: str) -> None:
        self.skipped: Counter[str] = Counter()
        self._connection, self._revision, self._actor, self._action = connection, revision, actor, action
        self._values: Counter[str] = Counter()
        self._before: dict[int, Any] = {}
        self._after: dict[int, dict[str, Any]] = {}
        self._notes: dict[int, list[str]] = defaultdict(list)
        self._gone: list[tuple[int, str]] = []
        self._individuals = _Individuals(connection)

    def take(self, row: Any, field: str, value: str | None, note: str) -> None:
        """Let an annotation have a value."""
        after = self._after.get(row.id) or {
            "species": row.stated_species, "viewpoint": row.viewpoint, "quality": row.quality,
            "individual_id": row.individual_id,
        }  # fmt: skip
        changed = dict(after)
        if field in ("viewpoint", "quality"):
            changed[field] = float(value) if field == "quality" and value is not None else value
        else:
            species = value if field == "species" else _with_part(after["species"], value)
            if field == "part" and species is None:
                self.skipped["nobody has said the species yet: say it, or accept it, first"] += 1
                return
            kept, individual_id = self._individuals.under(after["individual_id"], species)
            if not kept:
                name = self._individuals.name(after["individual_id"])
                self.skipped[
                    f"it is individual {name!r} of {after['species']}, and cannot be {species or UNKNOWN}; take it off "
                    "that individual first"
                ] += 1
                return
            changed |= {"species": species, "individual_id": individual_id}
        self._before.setdefault(row.id, row)
        self._after[row.id] = changed
        self.take_away(row, field, value or UNKNOWN, note)

    def take_away(self, row: Any, field: str, value: str, note: str) -> None:
        """Let the proposal of a field go."""
        self._before.setdefault(row.id, row)
        self._notes[row.id].append(note)
        self._gone.append((row.id, field))
        self._values[value] += 1

    def write(self) -> Decided:
        delete_proposals(self._connection, self._gone)
        table = schema.annotation_table
        if self._after:
            self._connection.execute(
                update(table)
                .where(table.c.id == bindparam("annotation"))
                .values(
                    species=bindparam("new_species"),
                    part=bindparam("new_part"),
                    viewpoint=bindparam("new_viewpoint"),
                    quality=bindparam("new_quality"),
                    individual_id=bindparam("new_individual"),
                ),
                [
                    {
                        "annotation": annotation,
                        "new_species": after["species"],
                        "new_part": None if after["species"] is None else part_of(after["species"]),
                        "new_viewpoint": after["viewpoint"],
                        "new_quality": after["quality"],
                        "new_individual": after["individual_id"],
                    }
                    for annotation, after in self._after.items()
                ],
            )
        if self._notes:
            moment = now()
            self._connection.execute(insert(schema.ledger), [self._ledger_row(one, moment) for one in self._notes])
        return Decided(len(self._notes), dict(self._values), dict(self.skipped))

    def _ledger_row(self, annotation: int, moment: str) -> dict[str, Any]:
        before = self._before[annotation]
        after = self._after.get(annotation)
        return {
            "revision": self._revision,
            "at_utc": moment,
            "actor": self._actor,
            "action": self._action,
            "annotation_key": before.key,
            "species_before": before.stated_species,
            "species_after": before.stated_species if after is None else after["species"],
            "individual_before": self._individuals.name(before.individual_id),
            "individual_after": self._individuals.name(
                before.individual_id if after is None else after["individual_id"]
            ),
            "viewpoint_before": before.viewpoint,
            "viewpoint_after": before.viewpoint if after is None else after["viewpoint"],
            "note": "; ".join(self._notes[annotation]),
        }


class _Individuals:
    """The individuals of the catalogue, and what becomes of one whose annotation is said to be of another species."""

    def __init__(self, connection: Connection) -> None:
        c = schema.individuals.c
        self._connection = connection
        self._known = {row.id: (row.scope, row.name) for row in connection.execute(select(c.id, c.scope, c.name))}
        self._id_of = {scoped: individual for individual, scoped in self._known.items()}

    def name(self, individual_id: int | None) -> str | None:
        return None if individual_id is None else self._known[individual_id][1]

    def under(self, individual_id: int | None, species: str | None) -> tuple[bool, int | None]:
        """Whether the annotation can be of that species and, if so, the individual that it is of then.

        An individual is known by its species and name. Body and face of one animal are two species strings and the
        same individuals by name; another animal is another individual, and nobody has said that it is this one.
        """
        if individual_id is None:
            return True, None
        scope, name = self._known[individual_id]
        if scope in (schema.GLOBAL_SCOPE, species):
            return True, individual_id
        if species is None or animal_of(species) != animal_of(scope):
            return False, None
        if (species, name) not in self._id_of:
            table = schema.individuals
            self._connection.execute(insert(table).values(scope=species, name=name))
            query = select(table.c.id).where(table.c.scope == species, table.c.name == name)
            made = self._connection.execute(query).scalar_one()
            self._known[made], self._id_of[species, name] = (species, name), made
        return True, self._id_of[species, name]


def _with_part(species: str | None, part: str | None) -> str | None:
    """A species string that names this part instead of the one it named; the whole animal, and unknown, is none."""
    if species is None:
        return None
    animal = animal_of(species).strip()
    return animal if part in (None, NO_PART) else f"{animal}+{part}"


def _checked(field: str, value: str, settings: Settings) -> str | None:
    """A value as the catalogue keeps it; ``None`` for unknown."""
    text = value.strip()
    if text.lower() == UNKNOWN:
        return None
    if field == "viewpoint":
        viewpoint = ViewpointTable(settings.viewpoint_aliases).canonical(text)
        if viewpoint is None:
            raise InputError(
                f"viewpoint {value!r}: expected {', '.join(CANONICAL_VIEWPOINTS)} or {UNKNOWN}, or a spelling under "
                "[viewpoints.aliases] in resight.toml"
            )
        return viewpoint
    if field == "quality":
        try:
            number = float(text)
        except ValueError:
            number = math.nan
        if not math.isfinite(number):
            raise InputError(f"quality {value!r}: expected a number or {UNKNOWN}")
        return grade_text(number)
    found = parse_text(text)
    if found is None or isinstance(found, Bad) or (field == "part" and "+" in found):
        example = "lion or zebra+face" if field == "species" else f"face, {NO_PART}"
        raise InputError(f"{field} {value!r}: expected a name such as {example}, or {UNKNOWN}")
    return found


def _require_annotations(connection: Connection, annotation_ids: Collection[str] | None) -> None:
    key = schema.annotation_table.c.key
    known: set[str] = set()
    for block in by_blocks(annotation_ids or ()):
        known |= set(connection.execute(select(key).where(key.in_(block))).scalars())
    for name in annotation_ids or ():
        if name not in known:
            raise UnknownName(f"no annotation named {name!r}; `resight export csv` lists them with their ids")
