"""What it takes to repeat the paper: which of its 61 image sets can be had, and its numbers set beside ours."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, replace
from typing import Any

from resight.experiments.paper import paper_species, printed, table1
from resight.experiments.tables import Cell, Column, Table

ORIENTATION = (
    "The paper's numbers are an orientation only: its split, boxes, picture size, backbone and the other species "
    "trained with differ from those here."
)


@dataclass(frozen=True)
class _Offer:
    """How an image set can be had.

    Attributes:
        public: ``yes``, ``a set like it`` (of the same species; its counts need not agree), ``not as far as known``.
        where: The place and the set's name there.
    """

    public: str
    where: str


_KAGGLE_WHALES = _Offer(
    "yes", 'Kaggle, competition "Happywhale - Whale and Dolphin Identification" (an account and its rules)'
)
_NOT_KNOWN = _Offer("not as far as known", "contributed to Wildbook; ask the data's owners (community.wildme.org)")

# Named by the paper as the source of the set.
_BY_SOURCE = {
    "Happywhale": _KAGGLE_WHALES,
    "C-Tai": _Offer("yes", "GitHub cvjena/chimpanzee_faces (Freytag et al. 2016)"),
    "C-Zoo": _Offer("yes", "GitHub cvjena/chimpanzee_faces (Freytag et al. 2016)"),
    "DogFaceNet": _Offer("yes", "GitHub GuillaumeMougeot/DogFaceNet, releases (Mougeot et al. 2019)"),
    "PrimFace": _Offer("yes", "visiome.neuroinf.jp/primface (after registration)"),
    "MacaqueFaces": _Offer("yes", 'figshare, "Macaque faces" (Witham and Bethell 2019)'),
    "SealID": _Offer(
        "yes", "Fairdata, doi.org/10.23729/0f4a3296-3b10-40c8-9ad3-0cf00a5a4a53 (Nepovinnykh et al. 2022)"
    ),
    "SeaTurtleID": _Offer("yes", "Kaggle, wildlifedatasets/seaturtleid2022 (Adam et al. 2024)"),
    "Lomas Capuchin": _Offer("not as far as known", "the paper names the source and no place"),
}

# Contributed sets of which the paper says that they, or a set of the same species, were made public.
_BY_NAME = {
    "amur_tiger": _Offer("a set like it", "LILA BC, ATRW (cited by the paper)"),
    "beluga_whale": _Offer("a set like it", "LILA BC, Beluga ID 2022 (contributed by the paper's authors)"),
    "giraffe": _Offer(
        "a set like it", "LILA BC, Great Zebra and Giraffe Count and ID: Masai giraffes (Parham et al. 2017, cited)"
    ),
    "hyena": _Offer("a set like it", "LILA BC, Hyena ID 2022 (contributed by the paper's authors)"),
    "leopard": _Offer("a set like it", "LILA BC, Leopard ID 2022 (contributed by the paper's authors)"),
    "whaleshark": _Offer("a set like it", "LILA BC, Whale Shark ID (contributed by the paper's authors)"),
    "nyala": _Offer("yes", "GitHub tvanzyl/wildlife_reidentification (Dlamini and van Zyl 2020)"),
}


def reproduction_plan(held: Collection[str] = ()) -> Table:
    """Table 1 of the paper with what can be had of it.

    Args:
        held: Species strings of a catalogue; the last column says which of them stand for the row's species.
    """
    standing: dict[str, list[str]] = {}
    for name in sorted(held):
        species = paper_species(name)
        if species is not None:
            standing.setdefault(species, []).append(name)
    rows = []
    for image_set in table1():
        offer = _BY_SOURCE.get(image_set.source) or _BY_NAME.get(image_set.name) or _NOT_KNOWN
        rows.append(
            {
                "dataset": image_set.name,
                "species": image_set.species,
                "source": image_set.source,
                "annotations": image_set.annotations,
                "individuals": image_set.individuals,
                "public": offer.public,
                "where": offer.where,
                "held": ", ".join(standing.get(image_set.species, [])) or None,
            }
        )
    public = sum(row["public"] == "yes" for row in rows)
    like = sum(row["public"] == "a set like it" for row in rows)
    return Table(
        "reproduction-plan",
        "The paper's image sets and how to get them",
        (
            Column("dataset", "Dataset"),
            Column("species", "Species (Table 2)"),
            Column("source", "Source, as printed"),
            Column("annotations", "Annotations"),
            Column("individuals", "Individuals"),
            Column("public", "Public"),
            Column("where", "Where"),
            Column("held", "In this catalogue"),
        ),
        rows,
        f"Of {len(rows)} sets {public} are public and of {like} more there is a public set of the same species, whose "
        "counts need not agree; the rest were contributed and are not public as far as is known. A public set may have "
        "grown or been cleaned since; most have a licence of their own.",
    )


def beside_paper(
    table: Table, figures: Mapping[str, str], *, species: str = "species", individuals: str | None = None
) -> Table:
    """The same table with the paper's number after each of our columns that it answers to.

    Args:
        table: Ours.
        figures: Key of our column → the printed figure, one of :data:`resight.experiments.paper.FIGURES`.
        species: Key of the column that holds our species strings.
        individuals: Key of the column with the number of individuals trained on, for Tables 4 and 5: only a row of the
            very same number is answered.

    Returns:
        With columns ``KEY_paper`` and, where the paper has any of the species, a note on what they are worth.

    Raises:
        ValueError: a key that is no column of the table, or no printed figure of that name.
    """
    keys = {column.key for column in table.columns}
    wanted = {species, *figures, *([] if individuals is None else [individuals])}
    if wanted - keys:
        raise ValueError(f"table {table.name} has no column {sorted(wanted - keys)}; it has {sorted(keys)}")
    columns: list[Column] = []
    for column in table.columns:
        columns.append(column)
        if column.key in figures:
            title = f"{column.title}, paper"
            columns.append(Column(f"{column.key}_paper", title, column.unit, digits=1))
    rows: list[dict[str, Any]] = []
    answered = False
    for row in table.rows:
        added: dict[str, Cell] = {}
        size = None if individuals is None else row[individuals]
        for key, figure in figures.items():
            number = printed(figure, str(row[species]), size)
            added[f"{key}_paper"] = number
            answered = answered or number is not None
        rows.append({**row, **added})
    note = " ".join(part for part in (table.note, ORIENTATION if answered else "") if part)
    return replace(table, columns=tuple(columns), rows=rows, note=note)
