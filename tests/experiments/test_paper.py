from __future__ import annotations

import csv
from pathlib import Path

import pytest

import resight.experiments
from resight.experiments import paper
from resight.experiments.paper import (
    FIGURES,
    disagreements,
    paper_species,
    printed,
    table1,
    table2,
    table2_rows,
    table3,
    table3_rows,
    table4,
    table4_rows,
    table5,
    table5_rows,
)
from resight.experiments.reproduce import ORIENTATION, beside_paper, reproduction_plan
from resight.experiments.tables import Column, Table

REFERENCE = Path(resight.experiments.__file__).parent / "reference"


def found(what: str) -> list[str]:
    return [str(row["gives"]) for row in disagreements().rows if str(row["what"]).startswith(what)]


def test_the_tables_have_the_rows_that_were_printed() -> None:
    assert (len(table1()), len(table2_rows()), len(table3_rows())) == (61, 45, 33)
    assert [len(rows) for rows in table4_rows().values()] == [5] * 6
    assert [[row.individuals for row in rows] for rows in table5_rows().values()] == [[0, 25, 50, 100, 200]] * 6


def test_numbers_as_printed() -> None:
    nyala = table2("nyala")
    assert nyala is not None
    assert (nyala.multi_species, nyala.leave_one_out, nyala.single_species) == (43.4, 15.6, 21.8)
    lion = table3("lion+head")
    assert lion is not None
    assert (lion.megadescriptor_l_384, lion.miewid) == (69.6, 75.2)
    assert [(r.annotations, r.species_only, r.with_others) for r in table4("hyena")[:2]] == [
        (0, None, 58.8),
        (254, 32.4, 62.8),
    ]
    assert table5("Gray Whale")[-1].with_others == 66.6
    assert next(s.annotations for s in table1() if s.name == "whale_humpback+fluke") == 6706


def test_a_species_the_paper_lacks_has_no_numbers() -> None:
    assert table2("cow_face") is None
    assert table3("nyala") is None  # in Table 2 only
    assert table2("commersons_dolphin") is None  # in Table 1 only
    assert table4("nyala") == table5("cow_face") == ()


@pytest.mark.parametrize(
    ("name", "species"),
    [
        ("nyala", "nyala"),
        ("whale_beluga", "beluga_whale"),
        ("beluga_whale", "beluga_whale"),
        ("giraffe", "giraffe"),
        ("lion+head", "lion"),
        ("Panthera leo", "lion"),
        ("Spotted-Hyena", "hyena"),
        ("turtle_green+head", "green_turtle"),
        ("killer_whale", "orca"),
        ("whale_sperm+fluke", "whale_sperm+fluke"),
        ("frasiers_dolphin", "frasiers_dolphin"),
        ("tiger", None),
        ("zebra", None),
        ("macaca_mulatta", None),
        ("lions", None),
        ("lion+tail", None),
        ("cow_face", None),
        ("", None),
    ],
)
def test_species_are_looked_up_and_never_guessed(name: str, species: str | None) -> None:
    assert paper_species(name) == species


def test_every_image_set_joins_one_species_and_every_row_of_table_2_has_image_sets() -> None:
    species = {image_set.species for image_set in table1()}
    assert len(species) == 49  # the number of species the paper gives
    assert species - set(table2_rows()) == {
        "commersons_dolphin", "frasiers_dolphin", "horse_wild+face", "rough_toothed_dolphin",
    }  # fmt: skip
    assert set(table2_rows()) <= species
    assert {s.species for s in table1() if "orca" in s.name or s.name == "killer_whale"} == {"orca"}


def test_every_name_means_itself_and_one_species() -> None:
    for species in {*table2_rows(), *(s.species for s in table1())}:
        assert paper_species(species) == species
    known = {s.species for s in table1()}
    assert set(paper._names().values()) == known
    assert set(paper._ALSO_CALLED) <= known
    joined = [name for names in paper._JOINED.values() for name in names]
    assert len(joined) == len(set(joined))
    assert set(joined) <= {s.name for s in table1()}


def test_disagreements_say_what_the_csvs_give() -> None:
    with (REFERENCE / "table2_top1.csv").open(encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    gains = [float(row["multi_species"]) - float(row["single_species"]) for row in rows]
    assert found("mean gain of the joint") == [f"+{sum(gains) / 45:.1f}, plain mean of 45 species"]
    assert found("mean gain of the joint")[0].startswith("+18.8")
    assert found("mean gain over MegaDescriptor") == ["+22.9, plain mean of 33 species"]
    assert found("worst gain") == ["−0.3 (dog)"]
    assert found("annotations") == ["280,143", "6,706"]
    assert found("individuals") == ["44,764"]
    assert found("datasets") == ["61"]
    assert found("mean annotations") == ["6.26"]
    tails = ("more than 10,000", "fewer than 1,000", "fewer than 500", "fewer than 250")
    assert [found(tail)[0].split(" rows")[0] for tail in tails] == ["4", "16", "14", "9"]
    assert found("our model in the comparison") == [
        "Table 2's model that has seen it, for 4 of 33 species: "
        "brydes_whale, cuviers_beaked_whale, pygmy_killer_whale, sei_whale"
    ]
    assert found("species whose left-out") == ["giraffe 0.0"]


def test_disagreements_of_tables_4_and_5() -> None:
    rows = disagreements().rows
    zero = {str(r["what"]).split(":")[0]: (r["says"], r["gives"]) for r in rows if "never saw it" in str(r["what"])}
    assert zero == {
        "beluga_whale": ("28.0", "27.9"),
        "hyena": ("58.9", "58.8"),
        "loggerhead_turtle": ("32.7", "31.2"),
        "greywhale": ("44.4", "40.4"),
        "lion": ("75.2", "74.5"),
    }
    assert found("loggerhead_turtle, ") == ["fine-tuning 41.3, joint 36.7", "fine-tuning 48.6, joint 47.2"]
    assert found("hyena, 25") == ["fine-tuning 56.3, without it 58.8"]
    for species, sizes in table4_rows().items():  # rows say "Tables 4 and 5" of a number that both must have
        assert sizes[0].with_others == table5_rows()[species][0].with_others


def test_disagreements_are_computed_and_not_copied(monkeypatch: pytest.MonkeyPatch) -> None:
    rows = dict(table2_rows())
    rows["dog"] = paper.TrainedTop1("dog", 90.0, 75.1, 0.0)
    monkeypatch.setattr(paper, "table2_rows", lambda: rows)
    changed = dict(found_pairs())
    assert changed["worst gain of the joint model"] == "+0.3 (chimpanzee)"
    assert changed["mean gain of the joint model over single-species models"] == "+20.8, plain mean of 45 species"


def found_pairs() -> list[tuple[str, str]]:
    return [(str(row["what"]), str(row["gives"])) for row in disagreements().rows]


def test_printed() -> None:
    assert printed("table2.leave_one_out", "nyala") == 15.6
    assert printed("table3.miewid", "orca") == 59.5
    assert printed("table4.joint_training", "hyena", 25) == 62.8
    assert printed("table5.fine_tuning", "hyena", 25) == 56.3
    assert printed("table4.species_only", "hyena", 0) is None
    assert printed("table4.joint_training", "hyena", 30) is None
    assert printed("table4.joint_training", "hyena") is None
    assert printed("table2.multi_species", "cow_face") is None
    with pytest.raises(ValueError, match=r"table2\.multi_species"):
        printed("table2.joint", "nyala")
    for figure in FIGURES:
        assert printed(figure, "hyena", 25) is not None or figure.startswith("table3")


def test_the_plan_tells_of_every_set_whether_it_can_be_had() -> None:
    plan = reproduction_plan(["nyala", "lion+head", "lion", "cow_face"])
    rows = {str(row["dataset"]): row for row in plan.rows}
    assert len(rows) == 61
    assert {row["public"] for row in plan.rows} == {"yes", "a set like it", "not as far as known"}
    assert all(row["where"] for row in plan.rows)
    assert (rows["nyala"]["public"], rows["nyala"]["annotations"], rows["nyala"]["individuals"]) == ("yes", 1942, 237)
    assert rows["lion"]["held"] == "lion, lion+head"
    assert rows["hyena"]["held"] is None
    assert rows["cheetah"]["public"] == "not as far as known"
    assert all(row["public"] == "yes" for row in plan.rows if row["source"] == "Happywhale")
    public = sum(row["public"] == "yes" for row in plan.rows)
    assert f"Of 61 sets {public} are public" in plan.note


def test_the_papers_numbers_stand_beside_ours() -> None:
    ours = Table(
        "ours", "Ours", (Column("species", "Species"), Column("joint", "Joint", "%"), Column("n", "N")),
        [{"species": "nyala", "joint": 20.0, "n": 1}, {"species": "cow_face", "joint": 70.0}], "Note.",
    )  # fmt: skip
    both = beside_paper(ours, {"joint": "table2.multi_species"})
    assert [column.key for column in both.columns] == ["species", "joint", "joint_paper", "n"]
    assert both.columns[2].heading == "Joint, paper (%)"
    assert both.cells("joint_paper") == [43.4, None]
    assert both.note == f"Note. {ORIENTATION}"
    assert ours.cells("joint") == both.cells("joint")


def test_sizes_are_answered_only_where_the_number_of_individuals_is_the_same() -> None:
    ours = Table(
        "ours", "Ours", (Column("species", "Species"), Column("individuals", "Individuals"), Column("tuned", "Tuned")),
        [{"species": "hyena", "individuals": n, "tuned": 1.0} for n in (0, 25, 30)],
    )  # fmt: skip
    both = beside_paper(ours, {"tuned": "table5.fine_tuning"}, individuals="individuals")
    assert both.cells("tuned_paper") == [58.8, 56.3, None]


def test_a_table_of_other_species_gets_no_word_of_the_paper() -> None:
    ours = Table(
        "ours", "Ours", (Column("species", "S"), Column("joint", "J")), [{"species": "cow_face", "joint": 1.0}]
    )
    assert beside_paper(ours, {"joint": "table2.multi_species"}).note == ""
    with pytest.raises(ValueError, match="no column"):
        beside_paper(ours, {"jiont": "table2.multi_species"})
