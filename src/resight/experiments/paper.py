"""What the paper printed: its five tables, species' names as people have them, and where it disagrees with itself.

The paper is Otarashvili et al., "Multispecies Animal Re-ID Using a Large Community-Curated Dataset". Its tables are
package data as printed; "67,06" annotations of humpback flukes are read as 6,706. Numbers are top-1 in percent.
"""

from __future__ import annotations

import csv
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from statistics import fmean
from types import MappingProxyType

from resight.experiments.tables import Cell, Column, Table

# Row of Table 2 → the image sets of Table 1 it joins ("different image sets for a single species are combined when
# forming the training and test sets"). The paper does not print this list; joined so, the 61 sets are 49 species, the
# number it gives, of which four have no row in Table 2.
_JOINED = {
    "chimpanzee": ("chimpanzee", "chimpanzee_ctai", "chimpanzee_czoo"),
    "finwhale": ("fin_whale", "whale_fin+fin_dorsal"),
    "green_turtle": ("turtle_green", "turtle_green+head"),
    "greywhale": ("whale_grey",),
    "hawksbill_turtle": ("turtle_hawksbill", "turtle_hawksbill+head"),
    "humpbackwhale": ("whale_humpback+fin_dorsal", "whale_humpback+fluke"),
    "loggerhead_turtle": ("turtle_loggerhead_ext", "turtle_loggerhead_ext+head"),
    "orca": ("killer_whale", "whale_orca", "whale_orca+fin_dorsal"),
    "pilotwhale": ("long_finned_pilot_whale", "short_fin_pilot_whale+fin_dorsal", "short_finned_pilot_whale"),
    "spotteddolphin": ("pantropic_spotted_dolphin", "spotted_dolphin"),
}

# Species → what else people call it: other sources' strings for it, and its scientific name. Only names that mean this
# species and no other; "tiger", "zebra" or "rhesus_macaque" (two of the paper's rows) are therefore not here.
_ALSO_CALLED = {
    "amur_tiger": "atrw siberian_tiger tiger_amur panthera_tigris_altaica",
    "beluga_whale": "beluga whale_beluga beluga_id beluga_id_2022 delphinapterus_leucas",
    "blue_whale": "whale_blue balaenoptera_musculus",
    "bottlenose_dolphin": "dolphin_bottlenose bottlenose_dolpin dolphin_bottlenose+fin_dorsal tursiops_truncatus",
    "brydes_whale": "whale_brydes balaenoptera_edeni balaenoptera_brydei",
    "capuchin": "capuchin_monkey lomas_capuchin",
    "cheetah": "acinonyx_jubatus",
    "chimpanzee": "chimpanzee_face ctai czoo pan_troglodytes",
    "commersons_dolphin": "dolphin_commersons cephalorhynchus_commersonii",
    "cuviers_beaked_whale": "whale_cuviers_beaked whale_beaked_cuviers ziphius_cavirostris",
    "dog": "dogfacenet dog_face domestic_dog canis_familiaris canis_lupus_familiaris",
    "dusky_dolphin": "dolphin_dusky lagenorhynchus_obscurus",
    "eurasianlynx": "eurasian_lynx lynx_eurasian lynx_lynx",
    "finwhale": "whale_fin balaenoptera_physalus",
    "frasiers_dolphin": "frasers_dolphin dolphin_frasers lagenodelphis_hosei",
    "giraffe": "giraffa_camelopardalis",
    "green_turtle": "green_sea_turtle chelonia_mydas",
    "greywhale": "grey_whale gray_whale graywhale whale_gray eschrichtius_robustus",
    "hawksbill_turtle": "hawksbill hawksbill_sea_turtle eretmochelys_imbricata",
    "horse_wild_tunisian+face": "horse_wild_tunisian",
    "humpbackwhale": "humpback_whale humpback whale_humpback megaptera_novaeangliae",
    "hyena": "hyaena spotted_hyena spotted_hyaena hyena_spotted hyena_id hyena_id_2022 crocuta_crocuta",
    "hyperoodon_ampullatus": "northern_bottlenose_whale whale_northern_bottlenose",
    "jaguar": "panthera_onca",
    "japanese_monkey": "japanese_macaque macaca_fuscata",
    "leopard": "african_leopard leopard_id leopard_id_2022 panthera_pardus",
    "lion": "lion+head african_lion panthera_leo",
    "loggerhead_turtle": (
        "loggerhead loggerhead_sea_turtle turtle_loggerhead turtle_loggerhead+head seaturtleid seaturtleid2022 "
        "seaturtleidheads caretta_caretta"
    ),
    "lynx_pardinus": "iberian_lynx lynx_iberian",
    "macaque_face": "macaquefaces macaque_faces",
    "melon_headed_whale": "whale_melon_headed peponocephala_electra",
    "nyala": "nyaladata nyala_data tragelaphus_angasii",
    "orca": "kiler_whale whale_killer orcinus_orca",
    "pilotwhale": (
        "pilot_whale globis whale_pilot short_finned_pilot_whale+fin_dorsal globicephala_melas "
        "globicephala_macrorhynchus"
    ),
    "pygmy_killer_whale": "whale_pygmy_killer feresa_attenuata",
    "rhesus_monkey": "",
    "rough_toothed_dolphin": "dolphin_rough_toothed steno_bredanensis",
    "seal": "sealid saimaa_ringed_seal seal_saimaa_ringed pusa_hispida_saimensis",
    "sei_whale": "whale_sei balaenoptera_borealis",
    "snow_leopard": "leopard_snow panthera_uncia uncia_uncia",
    "spinner_dolphin": "dolphin_spinner stenella_longirostris",
    "spotteddolphin": "dolphin_spotted dolphin_pantropic_spotted stenella_attenuata",
    "whale_sperm+fluke": "sperm_whale sperm_whale+fluke whale_sperm physeter_macrocephalus",
    "whaleshark": "whale_shark whale_shark_id shark_whale rhincodon_typus",
    "white_shark+fin_dorsal": "white_shark great_white_shark shark_white shark_great_white carcharodon_carcharias",
    "white_sided_dolphin": "dolphin_white_sided",
    "wilddog": "wild_dog african_wild_dog wild_dog_african painted_dog lycaon_pictus",
    "zebra_grevys": "zebra_grevy grevys_zebra equus_grevyi",
}  # fmt: skip

# Tables 4 and 5 print headings of their own.
_HEADINGS = {
    "Beluga": "beluga_whale", "Hyena": "hyena", "Loggerhead Turtle": "loggerhead_turtle", "Gray Whale": "greywhale",
    "White Shark": "white_shark+fin_dorsal", "Lion": "lion",
}  # fmt: skip


@dataclass(frozen=True)
class ImageSet:
    """A row of Table 1, and the species it belongs to."""

    name: str
    source: str
    annotations: int
    individuals: int
    species: str


@dataclass(frozen=True)
class TrainedTop1:
    """A row of Table 2: one model for all, one for all others, one for this species alone."""

    species: str
    multi_species: float
    leave_one_out: float
    single_species: float


@dataclass(frozen=True)
class ZeroShotTop1:
    """A row of Table 3: two models that are said not to have seen the species."""

    species: str
    megadescriptor_l_384: float
    miewid: float


@dataclass(frozen=True)
class SizedTop1:
    """A row of Table 4 or 5.

    Attributes:
        species: As Table 2 has it.
        individuals: Of the species in training.
        annotations: Of the species in training.
        species_only: Trained on these alone; ``None`` where there are none.
        with_others: Table 4: trained jointly with all other species. Table 5: fine-tuned from the model of all others.
    """

    species: str
    individuals: int
    annotations: int
    species_only: float | None
    with_others: float


def paper_species(name: str) -> str | None:
    """The paper's row for a species string as people have it, or ``None``.

    An explicit table is looked up; letter case, and a blank or hyphen in place of ``_``, are all that is forgiven. The
    row's name is Table 2's where it has the species, else Table 1's.
    """
    return _names().get("_".join(name.casefold().replace("-", " ").replace("_", " ").split()))


@cache
def _names() -> Mapping[str, str]:
    names: dict[str, str] = {}

    def add(name: str, species: str) -> None:
        if names.setdefault(name, species) != species:
            raise ValueError(f"{name} stands for {names[name]} and for {species}")

    for species, others in _ALSO_CALLED.items():
        for name in (species, *others.split()):
            add(name, species)
    for image_set in table1():
        add(image_set.name, image_set.species)
    return MappingProxyType(names)


@cache
def _read(name: str) -> tuple[dict[str, str], ...]:
    text = files("resight.experiments").joinpath("reference", f"{name}.csv").read_text(encoding="utf-8")
    return tuple(csv.DictReader(text.splitlines()))


@cache
def table1() -> tuple[ImageSet, ...]:
    """Table 1, every row in the order printed."""
    species_of = {name: species for species, joined in _JOINED.items() for name in joined}
    return tuple(
        ImageSet(
            row["dataset"],
            row["source"],
            int(row["annotations"]),
            int(row["individuals"]),
            species_of.get(row["dataset"], row["dataset"]),
        )
        for row in _read("table1_datasets")
    )


@cache
def table2_rows() -> Mapping[str, TrainedTop1]:
    """Table 2, every row by its name."""
    rows = (
        TrainedTop1(r["species"], float(r["multi_species"]), float(r["leave_one_out"]), float(r["single_species"]))
        for r in _read("table2_top1")
    )
    return MappingProxyType({row.species: row for row in rows})


@cache
def table3_rows() -> Mapping[str, ZeroShotTop1]:
    """Table 3, every row by its name."""
    rows = (
        ZeroShotTop1(r["species"], float(r["megadescriptor_l_384"]), float(r["miewid"]))
        for r in _read("table3_zero_shot_top1")
    )
    return MappingProxyType({row.species: row for row in rows})


@cache
def table4_rows() -> Mapping[str, tuple[SizedTop1, ...]]:
    """Table 4 by species, sizes rising."""
    return _sized("table4_joint_training_top1", "joint_training")


@cache
def table5_rows() -> Mapping[str, tuple[SizedTop1, ...]]:
    """Table 5 by species, sizes rising."""
    return _sized("table5_fine_tuning_top1", "fine_tuning")


def _sized(name: str, column: str) -> Mapping[str, tuple[SizedTop1, ...]]:
    species: dict[str, list[SizedTop1]] = {}
    for row in _read(name):
        key = _HEADINGS[row["species"]]
        only = float(row["species_only"]) if row["species_only"] else None
        species.setdefault(key, []).append(
            SizedTop1(key, int(row["individuals"]), int(row["annotations"]), only, float(row[column]))
        )
    return MappingProxyType({key: tuple(sorted(rows, key=lambda r: r.individuals)) for key, rows in species.items()})


def table2(species: str) -> TrainedTop1 | None:
    """Table 2's row for a species string as people have it."""
    return table2_rows().get(paper_species(species) or "")


def table3(species: str) -> ZeroShotTop1 | None:
    """Table 3's row for a species string as people have it."""
    return table3_rows().get(paper_species(species) or "")


def table4(species: str) -> tuple[SizedTop1, ...]:
    """Table 4's rows for a species string as people have it; empty where it has none."""
    return table4_rows().get(paper_species(species) or "", ())


def table5(species: str) -> tuple[SizedTop1, ...]:
    """Table 5's rows for a species string as people have it; empty where it has none."""
    return table5_rows().get(paper_species(species) or "", ())


FIGURES = (
    "table2.multi_species",
    "table2.leave_one_out",
    "table2.single_species",
    "table3.megadescriptor_l_384",
    "table3.miewid",
    "table4.species_only",
    "table4.joint_training",
    "table5.fine_tuning",
)
"""Every printed figure that :func:`printed` knows."""


def printed(figure: str, species: str, individuals: int | None = None) -> float | None:
    """One number as the paper prints it, or ``None`` where it prints none.

    Args:
        figure: One of :data:`FIGURES`; ``table4.species_only`` is Table 5's column of that name too.
        species: As people have it.
        individuals: Of the species in training, for Tables 4 and 5.

    Raises:
        ValueError: no such figure.
    """
    if figure not in FIGURES:
        raise ValueError(f"no printed figure {figure!r}; there are {', '.join(FIGURES)}")
    table, column = figure.split(".")
    if table in ("table2", "table3"):
        row = table2(species) if table == "table2" else table3(species)
        return None if row is None else float(getattr(row, column))
    for sized in table4(species) if table == "table4" else table5(species):
        if sized.individuals == individuals:
            return sized.species_only if column == "species_only" else sized.with_others
    return None


def disagreements() -> Table:
    """Where the paper's text and its tables, or two of its tables, do not say the same.

    The right-hand side is computed from the tables at each call; what the text says is quoted. Rows of kind ``text``
    set one passage against another, so nothing in them is computed.
    """
    columns = (
        Column("what", "What"),
        Column("says", "What is said"),
        Column("says_where", "Where it is said"),
        Column("gives", "What the table gives"),
        Column("gives_where", "From"),
        Column("kind", "Kind"),
    )
    found = [*_of_gains(), *_of_data(), *_of_table3(), *_of_sizes(), *_of_text()]
    rows = [dict(zip((column.key for column in columns), row, strict=True)) for row in found]
    note = "Kind: computed = worked out from the tables as printed; text = two passages set side by side."
    return Table("paper-disagreements", "Where the paper disagrees with itself", columns, rows, note)


_Found = tuple[Cell, Cell, Cell, Cell, Cell, Cell]


def _of_gains() -> list[_Found]:
    gains = {row.species: row.multi_species - row.single_species for row in table2_rows().values()}
    worst = min(gains, key=lambda species: gains[species])
    never = [row.species for row in table2_rows().values() if row.leave_one_out == 0]
    over = [row.miewid - row.megadescriptor_l_384 for row in table3_rows().values()]
    return [
        ("mean gain of the joint model over single-species models", "12.5 points", "abstract, §1, §5.1",
         f"{_signed(fmean(gains.values()))}, plain mean of {len(gains)} species", "Table 2", "computed"),
        ("mean gain over MegaDescriptor", "19.2 points", "abstract, §1, §5.3",
         f"{_signed(fmean(over))}, plain mean of {len(over)} species", "Table 3", "computed"),
        ("worst gain of the joint model", "−0.2", "§1", f"{_signed(gains[worst])} ({worst})", "Table 2", "computed"),
        ("species compared", "49", "§5.1", f"{len(gains)}", "Table 2, rows", "computed"),
        ("species whose left-out model finds nothing", "none is mentioned", "§5.2",
         ", ".join(f"{species} 0.0" for species in never), "Table 2", "computed"),
        ("order of the species in Table 2", "by decreasing number of annotations", "§5.1",
         "by the alphabet" if list(table2_rows()) == sorted(table2_rows()) else "neither by size nor by the alphabet",
         "Table 2", "computed"),
    ]  # fmt: skip


def _of_data() -> list[_Found]:
    sets = table1()
    annotations, individuals = sum(s.annotations for s in sets), sum(s.individuals for s in sets)
    species: dict[str, int] = {}
    for image_set in sets:
        species[image_set.species] = species.get(image_set.species, 0) + image_set.annotations
    tails: tuple[tuple[str, str, Callable[[int], bool]], ...] = (
        ("more than 10,000 annotations", "5 species", lambda n: n > 10_000),
        ("fewer than 1,000 annotations", "11 species", lambda n: n < 1_000),
        ("fewer than 500 annotations", "9 species", lambda n: n < 500),
        ("fewer than 250 annotations", "6 species", lambda n: n < 250),
    )
    return [
        ("annotations", "225,374", "§1 (225K: abstract)", f"{annotations:,}", "Table 1, sum", "computed"),
        ("individuals", "37,138", "§1 (37K: abstract)", f"{individuals:,}", "Table 1, sum", "computed"),
        ("datasets", "59", "§1, §6", f"{len(sets)}", "Table 1, rows", "computed"),
        ("mean annotations an individual", f"6.25, though the text's own totals give {225_374 / 37_138:.2f}", "§3",
         f"{annotations / individuals:.2f}", "Table 1, sums", "computed"),
        *(
            (what, says, "§3",
             f"{sum(holds(s.annotations) for s in sets)} rows; {sum(holds(n) for n in species.values())} species when"
             " a species' rows are joined", "Table 1", "computed")
            for what, says, holds in tails
        ),
    ]  # fmt: skip


def _of_table3() -> list[_Found]:
    seen = []
    for species, row in table3_rows().items():
        trained = table2_rows()[species]
        if row.miewid == trained.multi_species and row.miewid != trained.leave_one_out:
            seen.append(species)
    return [
        ("our model in the comparison with MegaDescriptor", "trained without the tested species", "§5.3",
         f"Table 2's model that has seen it, for {len(seen)} of {len(table3_rows())} species: {', '.join(seen)}",
         "Tables 2 and 3", "computed"),
    ]  # fmt: skip


def _of_sizes() -> list[_Found]:
    rows: list[_Found] = []
    for species, sizes in table4_rows().items():
        zero, left_out = sizes[0].with_others, table2_rows()[species].leave_one_out
        if zero != left_out:
            rows.append((
                f"{species}: the model that never saw it", f"{left_out:.1f}", "Table 2, leave-one-out",
                f"{zero:.1f}", "Tables 4 and 5, 0 individuals", "computed",
            ))  # fmt: skip
    for species, sizes in table5_rows().items():
        zero = sizes[0].with_others
        for joint, tuned in zip(table4_rows()[species], sizes, strict=True):
            if tuned.with_others > joint.with_others:
                rows.append((
                    f"{species}, {tuned.individuals} individuals", "joint training is consistently better", "§5.5",
                    f"fine-tuning {tuned.with_others:.1f}, joint {joint.with_others:.1f}", "Tables 4 and 5", "computed",
                ))  # fmt: skip
            if tuned.individuals and tuned.with_others < zero:
                rows.append((
                    f"{species}, {tuned.individuals} individuals", "fine-tuning is effective, especially for small "
                    "datasets", "§5.5", f"fine-tuning {tuned.with_others:.1f}, without it {zero:.1f}", "Table 5",
                    "computed",
                ))  # fmt: skip
    return rows


def _of_text() -> list[_Found]:
    return [
        ("order of the species", "by decreasing number of annotations", "§5.1", "by increasing number",
         "captions of Figures 1 and 5 to 8, §5.2", "text"),
        ("length of the vector", "2,048", "§4", "2,152", "appendix A.1", "text"),
        ("annotations of humpback flukes", "67,06", "Table 1, as printed", "6,706", "how it is read here", "text"),
    ]  # fmt: skip


def _signed(points: float) -> str:
    return f"{points:+.1f}".replace("-", "−")
