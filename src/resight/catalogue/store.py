"""Reading the catalogue as annotations with their identities resolved, and the small writes that computing needs."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from typing import Any

from sqlalchemy import Connection, bindparam, case, func, insert, select, update

from resight.catalogue import schema
from resight.catalogue.blocks import by_blocks
from resight.catalogue.photos import FoundImage
from resight.catalogue.policy import animal_of, default_policy, describe, identity_of, is_allowed, part_of
from resight.catalogue.quality import Measured, rule_that_catches
from resight.errors import InputError, UnknownName
from resight.progress import track
from resight.settings import Policy, Settings
from resight.types import Annotation, Box

TRAIN, TEST, SET_ASIDE = "train", "test", "set_aside"
NO_PART = "whole"  # as a proposed part: the animal is seen, not a part of it


@dataclass(frozen=True)
class StoredSplit:
    """A frozen split as the catalogue keeps it.

    Attributes:
        subset: annotation_id → ``train``, ``test`` or ``set_aside``.
        identity: annotation_id → the identity it was frozen with.
        encounter: annotation_id → the encounter it was frozen with.
        species: annotation_id → the species it was frozen with.
        report: What ``resight split`` printed.
    """

    name: str
    protocol: str
    seed: int
    catalogue_revision: int
    made_at_utc: str
    subset: Mapping[str, str]
    identity: Mapping[str, str]
    encounter: Mapping[str, str]
    species: Mapping[str, str]
    report: Mapping[str, Any]


def revision(connection: Connection) -> int:
    """The catalogue's revision number, raised by every change."""
    return int(connection.execute(select(schema.state.c.revision)).scalar_one())


def policies(connection: Connection, settings: Settings) -> dict[str, Policy]:
    """The viewpoint policy of every species: as ``resight.toml`` says, else by the viewpoints it has."""
    return _policies(connection, settings, _proposals(connection))


def _policies(
    connection: Connection, settings: Settings, proposals: Mapping[int, Mapping[str, str]]
) -> dict[str, Policy]:
    viewpoints: dict[str, set[str | None]] = defaultdict(set)
    columns = schema.annotation_table.c
    for species, viewpoint in connection.execute(select(columns.species, columns.viewpoint).distinct()):
        if species is not None:
            viewpoints[species].add(viewpoint)
    query = select(columns.id, columns.species, columns.viewpoint, columns.quality).join(
        schema.proposals, columns.id == schema.proposals.c.annotation_id
    )
    for row in connection.execute(query.distinct()) if proposals else ():
        holds = _with_proposals(row, proposals.get(row.id, {}))
        if holds.species is not None:
            viewpoints[holds.species].add(holds.viewpoint)
    return {
        species: settings.viewpoint_policy.get(species) or default_policy(found)
        for species, found in sorted(viewpoints.items())
    }


@dataclass(frozen=True, slots=True)
class _Holding:
    """What counts of an annotation: what is stated or decided, else what is proposed."""

    species: str | None
    viewpoint: str | None
    quality: float | None
    proposed: frozenset[str]


def _proposals(connection: Connection) -> dict[int, dict[str, str]]:
    """Annotation's row id → field → proposed value."""
    c = schema.proposals.c
    found: dict[int, dict[str, str]] = defaultdict(dict)
    for row in connection.execute(select(c.annotation_id, c.field, c.value)):
        found[row.annotation_id][row.field] = row.value
    return found


def _with_proposals(row: Any, proposals: Mapping[str, str]) -> _Holding:
    species, viewpoint, quality = row.species, row.viewpoint, row.quality
    if not proposals:
        return _Holding(species, viewpoint, quality, frozenset())
    used = set()
    if species is None and "species" in proposals:
        species = proposals["species"]
        used.add("species")
    part = proposals.get("part", NO_PART)
    if species is not None and part != NO_PART and part_of(species) is None:
        species = f"{species}+{part}"
        used.add("part")
    if viewpoint is None and "viewpoint" in proposals:
        viewpoint = proposals["viewpoint"]
        used.add("viewpoint")
    if quality is None and "quality" in proposals:
        quality = float(proposals["quality"])
        used.add("quality")
    return _Holding(species, viewpoint, quality, frozenset(used))


def list_annotations(
    connection: Connection, settings: Settings, *, species: Iterable[str] | None = None, unnamed: bool = False
) -> list[Annotation]:
    """Every annotation, in the order of its key, with identity and encounter resolved.

    An encounter is what the source gave, or the rule for raw photos; else individual and day where both are known; else
    the annotation itself. What a model proposed counts where nobody has said anything.

    Args:
        connection: A connection from :meth:`Database.reading`.
        settings: Whose viewpoint policy and quality rules count.
        species: Only these; ``None`` takes all.
        unnamed: Whether animals of which nobody has said the species are among them.

    Raises:
        UnknownName: a species that is not in the catalogue.
    """
    proposals = _proposals(connection)
    policy_of = _policies(connection, settings, proposals)
    wanted = None if species is None else set(species)
    UnknownName.require("species", wanted or (), policy_of)
    a, i, s = schema.annotation_table.c, schema.images.c, schema.sources.c
    n, e, m = schema.individuals.c, schema.encounters.c, schema.measures.c
    by_rule = schema.encounters.alias("by_rule")
    image_source = schema.sources.alias("image_source")
    query = (
        select(
            a.key, s.name.label("source"), a.file_name, a.image_id, i.root, i.path, i.content_hash, i.width, i.height,
            i.status, a.species, a.part, n.name.label("individual"), a.viewpoint, e.key.label("encounter"),
            a.box_x, a.box_y, a.box_w, a.box_h, a.theta_rad, i.taken_at, i.byte_size,
            i.modified_ns, a.id, a.quality, a.detector, a.confidence, by_rule.c.key.label("rule_encounter"),
            image_source.c.name.label("image_source"), m.sharpness, m.side_px, m.contrast, m.cut_share, m.duplicate_of,
        )
        .select_from(schema.annotation_table)
        .join(schema.sources, a.source_id == s.id)
        .join(schema.images, a.image_id == i.id)
        .outerjoin(schema.individuals, a.individual_id == n.id)
        .outerjoin(schema.encounters, a.encounter_id == e.id)
        .outerjoin(by_rule, i.encounter_id == by_rule.c.id)
        .outerjoin(image_source, by_rule.c.source_id == image_source.c.id)
        .outerjoin(schema.measures, a.id == m.annotation_id)
        .order_by(a.key)
    )  # fmt: skip
    if wanted is not None and not proposals:
        query = query.where(a.species.in_(sorted(wanted)))
    elif not (unnamed or proposals):
        query = query.where(a.species.is_not(None))
    found = []
    for row in track(connection.execute(query), "annotations"):
        holds = _with_proposals(row, proposals.get(row.id, {}))
        if holds.species is None and not unnamed:
            continue
        if wanted is not None and holds.species not in wanted:
            continue
        policy = "ignore" if holds.species is None else policy_of[holds.species]
        encounter, known = _encounter(row, holds.species)
        measured = Measured(
            row.sharpness, row.side_px, row.contrast, row.cut_share, row.confidence, holds.quality,
            row.duplicate_of is not None,
        )  # fmt: skip
        found.append(
            Annotation(
                annotation_id=row.key,
                source=row.source,
                file_name=row.file_name,
                image_id=row.image_id,
                image_root=row.root,
                image_path=row.path,
                content_hash=row.content_hash,
                image_width=row.width,
                image_height=row.height,
                image_status=row.status,
                species=holds.species,
                part=row.part if holds.species is None else part_of(holds.species),
                individual=row.individual,
                viewpoint=holds.viewpoint,
                encounter=encounter,
                encounter_known=known,
                identity=identity_of(row.individual, holds.viewpoint, policy),
                allowed=is_allowed(policy, holds.viewpoint),
                box=None if row.box_x is None else Box(row.box_x, row.box_y, row.box_w, row.box_h),
                theta_rad=row.theta_rad,
                taken_at=row.taken_at,
                image_bytes=row.byte_size,
                image_modified_ns=row.modified_ns,
                proposed=holds.proposed,
                filtered=rule_that_catches(settings.quality_rules(holds.species), measured),
                detector=row.detector,
                confidence=row.confidence,
                quality=holds.quality,
            )
        )
    return found


def _encounter(row: Any, species: str | None) -> tuple[str, bool]:
    if row.encounter is not None:
        return f"{row.source}:{row.encounter}", True
    if row.rule_encounter is not None:
        return f"{row.image_source}:{row.rule_encounter}", True
    if row.individual is not None and species is not None and row.taken_at is not None:
        # The parts of one animal met on one day were met together: body and head share the key.
        return f"{animal_of(species)}:{row.individual}:{row.taken_at[:10]}", True
    return row.key, False


def count_unnamed(connection: Connection) -> int:
    """How many annotations have no species, neither stated nor proposed: they are in no comparison."""
    a, p = schema.annotation_table.c, schema.proposals.c
    proposed = select(p.annotation_id).where(p.field == "species")
    query = select(func.count()).select_from(schema.annotation_table)
    return int(connection.execute(query.where(a.species.is_(None), a.id.not_in(proposed))).scalar_one())


def outlines(connection: Connection, annotation_ids: Iterable[str]) -> dict[str, Any]:
    """The outlines of these annotations, as they came; those without one are left out.

    Only what is asked for is read, a block at a time. An outline may take 10 KiB, so ask for as many at once as there
    is memory for.
    """
    columns = schema.annotation_table.c
    found = {}
    for block in by_blocks(annotation_ids):
        query = select(columns.key, columns.outline).where(columns.key.in_(block), columns.outline.is_not(None))
        found.update({row.key: row.outline for row in connection.execute(query)})
    return found


def update_images(connection: Connection, updates: Sequence[FoundImage]) -> None:
    """Store what was learned of images: content, size, date and place at first decode, and where moved photos lie.

    A date or place that a source stated is kept.
    """
    columns = schema.images.c
    if updates:
        connection.execute(
            update(schema.images)
            .where(columns.id == bindparam("image"))
            .values(
                status="ok",
                problem=None,
                content_hash=bindparam("content"),
                byte_size=bindparam("bytes"),
                modified_ns=bindparam("modified"),
                width=bindparam("w"),
                height=bindparam("h"),
                # Of a raw photo whose camera told a time, taken_at is that and the clock's offset, or not known.
                taken_at=case(
                    (columns.camera_time.is_(None), func.coalesce(columns.taken_at, bindparam("taken"))),
                    else_=columns.taken_at,
                ),
                latitude=func.coalesce(columns.latitude, bindparam("north")),
                longitude=func.coalesce(columns.longitude, bindparam("east")),
            ),
            [
                {
                    "image": u.image_id,
                    "content": u.facts.content_hash,
                    "bytes": u.byte_size,
                    "modified": u.modified_ns,
                    "w": u.facts.width,
                    "h": u.facts.height,
                    "taken": u.facts.taken_at,
                    "north": u.facts.latitude,
                    "east": u.facts.longitude,
                }
                for u in updates
            ],
        )
    moved = _moves(connection, updates)
    if moved:
        connection.execute(
            update(schema.images)
            .where(columns.id == bindparam("image"))
            .values(root=bindparam("r"), path=bindparam("p")),
            moved,
        )


def _moves(connection: Connection, updates: Sequence[FoundImage]) -> list[dict[str, Any]]:
    """Two images may be copies of one photo; where only one file is left, the image that has it keeps it."""
    columns = schema.images.c
    wanting = [u for u in updates if u.moved_to is not None]
    if not wanting:
        return []
    taken: set[tuple[str, str]] = set()
    for block in by_blocks(sorted({u.moved_to[1] for u in wanting if u.moved_to is not None})):
        rows = connection.execute(select(columns.root, columns.path).where(columns.path.in_(block)))
        taken.update((row.root, row.path) for row in rows)
    moved = []
    for u in wanting:
        if u.moved_to is not None and u.moved_to not in taken:
            taken.add(u.moved_to)
            moved.append({"image": u.image_id, "r": u.moved_to[0], "p": u.moved_to[1]})
    return moved


def quarantine_images(connection: Connection, reasons: Mapping[int, str]) -> None:
    """Mark images that turned out not to be readable, so that they are counted and not tried each time."""
    if reasons:
        connection.execute(
            update(schema.images)
            .where(schema.images.c.id == bindparam("image"))
            .values(status="quarantined", problem=bindparam("reason")),
            [{"image": image_id, "reason": reason} for image_id, reason in sorted(reasons.items())],
        )


def require_new_split(connection: Connection, name: str) -> None:
    """Refuse a name that a split bears; a split is never changed.

    Raises:
        InputError: the name is taken.
    """
    table = schema.splits
    if connection.execute(select(table.c.id).where(table.c.name == name)).first() is not None:
        raise InputError(f"a split named {name!r} is frozen already; give the new one another name")


def add_split(
    connection: Connection,
    *,
    name: str,
    protocol: str,
    seed: int,
    catalogue_revision: int,
    policy_of: Mapping[str, Policy],
    members: Sequence[Any],
    report: Mapping[str, Any],
) -> None:
    """Freeze a split.

    Args:
        connection: A connection from :meth:`Database.writing`.
        name: A new name.
        protocol: Such as ``paper``.
        seed: The seed it was drawn with.
        catalogue_revision: The catalogue's revision with the split in it.
        policy_of: The viewpoint policies it was drawn under.
        members: Frozen dataclasses with annotation_id, species, individual, identity, encounter, subset.
        report: What is printed of it, including the record of the filters.

    Raises:
        InputError: the name is taken; a split is never changed.
    """
    table = schema.splits
    require_new_split(connection, name)
    split_id = connection.execute(
        insert(table).values(
            name=name,
            protocol=protocol,
            seed=seed,
            catalogue_revision=catalogue_revision,
            made_at_utc=datetime.now(UTC).isoformat(timespec="seconds"),
            policies={species: describe(policy) for species, policy in policy_of.items()},
            report=dict(report),
        )
    ).inserted_primary_key
    rows = []
    for member in members:
        row = asdict(member)
        row["annotation_key"] = row.pop("annotation_id")
        row["split_id"] = None if split_id is None else split_id[0]
        rows.append(row)
    if rows:
        connection.execute(insert(schema.split_members), rows)


def split_names(connection: Connection) -> list[dict[str, Any]]:
    """The frozen splits, oldest first, without their members."""
    c = schema.splits.c
    query = select(c.name, c.protocol, c.seed, c.catalogue_revision, c.made_at_utc).order_by(c.id)
    return [dict(row._mapping) for row in connection.execute(query)]


def load_split(connection: Connection, name: str) -> StoredSplit:
    """Read a frozen split.

    Raises:
        UnknownName: there is none of that name.
    """
    table = schema.splits
    row = connection.execute(select(table).where(table.c.name == name)).first()
    if row is None:
        known = [entry["name"] for entry in split_names(connection)]
        raise UnknownName.among("split", name, known, f"freeze it with: resight split {name}")
    members = schema.split_members
    subset, identity, encounter, species = {}, {}, {}, {}
    query = select(members).where(members.c.split_id == row.id).order_by(members.c.annotation_key)
    for member in connection.execute(query):
        key = member.annotation_key
        subset[key], identity[key] = member.subset, member.identity
        encounter[key], species[key] = member.encounter, member.species
    return StoredSplit(
        row.name, row.protocol, row.seed, row.catalogue_revision, row.made_at_utc, subset, identity, encounter,
        species, row.report,
    )  # fmt: skip
