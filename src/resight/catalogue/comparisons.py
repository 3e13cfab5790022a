"""When an annotation was last compared with others, by which model, and with how many of them."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime

from sqlalchemy import Connection, bindparam, insert, select, update

from resight.catalogue import schema
from resight.catalogue.blocks import by_blocks


@dataclass(frozen=True, slots=True)
class Comparison:
    """One annotation of the catalogue as a query.

    Attributes:
        annotation_id: Which one.
        model: Whose vectors were compared.
        compared: With how many annotations it was.
        of: How many there are of its species.
    """

    annotation_id: str
    model: str
    compared: int
    of: int


def record(connection: Connection, comparisons: Iterable[Comparison]) -> int:
    """Note comparisons; each takes the place of an earlier one of the same annotation and model.

    Args:
        connection: From :meth:`Database.writing`, which need not raise the revision.
        comparisons: Where several are of one annotation and model, the last one counts.

    Returns:
        How many were noted; an annotation that is no longer in the catalogue is passed over.
    """
    table = schema.comparisons
    moment = datetime.now(UTC).isoformat(timespec="seconds")
    latest = {(one.annotation_id, one.model): one for one in comparisons}
    row_ids = _row_ids(connection, {annotation_id for annotation_id, _ in latest})
    before: set[tuple[int, str]] = set()
    for block in by_blocks(sorted(row_ids.values())):
        query = select(table.c.annotation_id, table.c.model).where(table.c.annotation_id.in_(block))
        before.update((row.annotation_id, row.model) for row in connection.execute(query))
    new, changed = [], []
    for (annotation_id, model), one in latest.items():
        row_id = row_ids.get(annotation_id)
        if row_id is None:
            continue
        if (row_id, model) in before:
            changed.append({"row": row_id, "by": model, "with": one.compared, "total": one.of, "at": moment})
        else:
            new.append(
                {"annotation_id": row_id, "model": model, "compared": one.compared, "of": one.of, "at_utc": moment}
            )
    if new:
        connection.execute(insert(table), new)
    if changed:
        connection.execute(
            update(table)
            .where(table.c.annotation_id == bindparam("row"), table.c.model == bindparam("by"))
            .values(compared=bindparam("with"), of=bindparam("total"), at_utc=bindparam("at")),
            changed,
        )
    return len(new) + len(changed)


def compared_with(connection: Connection, model: str | None) -> dict[str, int]:
    """Annotation → with how many it was compared last; by this model, or the most by any where it is ``None``."""
    a, c = schema.annotation_table.c, schema.comparisons.c
    query = select(a.key, c.compared).join(schema.comparisons, a.id == c.annotation_id)
    if model is not None:
        query = query.where(c.model == model)
    found: dict[str, int] = {}
    for row in connection.execute(query):
        found[row.key] = max(row.compared, found.get(row.key, 0))
    return found


def _row_ids(connection: Connection, annotation_ids: set[str]) -> dict[str, int]:
    columns = schema.annotation_table.c
    found = {}
    for block in by_blocks(sorted(annotation_ids)):
        query = select(columns.key, columns.id).where(columns.key.in_(block))
        found.update({row.key: row.id for row in connection.execute(query)})
    return found
