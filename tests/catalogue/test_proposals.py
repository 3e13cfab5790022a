from __future__ import annotations

from collections.abc import Collection, Sequence
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import update

from resight.catalogue import schema, store
from resight.catalogue.deciding import Decided, accept, correct, reject
from resight.catalogue.proposals import (
    Proposal,
    ProposalFilter,
    Replaced,
    count_proposals,
    grade_text,
    list_proposals,
    rejected,
    replace_proposals,
    settled,
)
from resight.errors import InputError, UnknownName
from resight.project import Project
from resight.splits import make_split
from resight.types import Annotation

from .projects import contents, do_import, herd, ledger, row, two_species, with_settings

HEAD = "viewpoint-1a2b3c4d"


@pytest.fixture
def project(tmp_path: Path) -> Project:
    """Five zebras on a photo each, and nobody has said their viewpoints."""
    made = Project.init(tmp_path / "project")
    do_import(made, herd(tmp_path / "herd", [row(number, viewpoint="") for number in range(5)]))
    return made


def keys(project: Project) -> list[str]:
    """Ids of the annotations, by file name."""
    return [a.annotation_id for a in everything(project)]


def everything(project: Project) -> list[Annotation]:
    with project.database.reading() as connection:
        return sorted(
            store.list_annotations(connection, project.settings, unnamed=True), key=lambda a: (a.source, a.file_name)
        )


def put(project: Project, field: str, values: dict[str, tuple[str, float]], asked: Collection[str] = ()) -> Replaced:
    model = f"{field}-1a2b3c4d"
    rows = [Proposal(name, field, value, confidence, model) for name, (value, confidence) in values.items()]
    with project.database.writing() as (connection, _):
        return replace_proposals(connection, field, rows, [*values, *(name for name in asked if name not in values)])


def listed(project: Project, **which: Any) -> list[tuple[str, str, float]]:
    with project.database.reading() as connection:
        found = list_proposals(connection, ProposalFilter(**which))
    return [(one.annotation_id, one.value, one.confidence) for one in found]


def accepted(project: Project, **which: Any) -> Decided:
    with project.database.writing() as (connection, revision):
        return accept(connection, revision, ProposalFilter(**which), actor="Ada")


def corrected(project: Project, ids: Sequence[str], field: str, value: str) -> Decided:
    with project.database.writing() as (connection, revision):
        return correct(connection, revision, ids, field, value, settings=project.settings, actor="Ada")


def turned_down(project: Project, **which: Any) -> Decided:
    with project.database.writing() as (connection, revision):
        return reject(connection, revision, ProposalFilter(**which), actor="Ada")


def forget(project: Project, names: Collection[str], **values: Any) -> None:
    """Change annotations as if they had come that way."""
    table = schema.annotation_table
    with project.database.writing() as (connection, _):
        connection.execute(update(table).where(table.c.key.in_(names)).values(**values))


# Written and listed


def test_a_newer_head_replaces_what_an_older_one_proposed(project: Project) -> None:
    a, b, c, d, e = keys(project)
    first = {a: ("left", 0.9), b: ("right", 0.8), c: ("left", 0.99)}
    assert put(project, "viewpoint", first) == Replaced(added=3, changed=0, unchanged=0, removed=0)
    assert put(project, "viewpoint", first) == Replaced(added=0, changed=0, unchanged=3, removed=0)
    put(project, "quality", {a: ("2", 0.7)})
    then = {a: ("left", 0.95), c: ("left", 0.99), d: ("up", 0.6)}
    assert put(project, "viewpoint", then, asked=[b, e]) == Replaced(added=1, changed=1, unchanged=1, removed=1)
    assert listed(project, field="viewpoint") == [(d, "up", 0.6), (a, "left", 0.95), (c, "left", 0.99)]
    # Those it was not asked about are left as they are, and so are other fields.
    assert put(project, "viewpoint", {}, asked=[d]) == Replaced(added=0, changed=0, unchanged=0, removed=1)
    with project.database.reading() as connection:
        assert count_proposals(connection) == {"quality": {"2": 1}, "viewpoint": {"left": 2}}


def test_proposals_are_listed_by_what_is_asked_for(project: Project, tmp_path: Path) -> None:
    do_import(project, herd(tmp_path / "more", [row(9, viewpoint="", species="lion")], name="more.csv"))
    a, b, *_, lion = keys(project)
    put(project, "viewpoint", {a: ("left", 0.9), b: ("right", 0.8), lion: ("left", 0.7)})
    put(project, "quality", {a: ("1", 0.5)})
    assert listed(project) == [(a, "1", 0.5), (lion, "left", 0.7), (b, "right", 0.8), (a, "left", 0.9)]
    assert listed(project, value="left") == [(lion, "left", 0.7), (a, "left", 0.9)]
    assert listed(project, value="left", least_confidence=0.9) == [(a, "left", 0.9)]
    assert listed(project, most_confidence=0.6) == [(a, "1", 0.5)]
    assert listed(project, species="lion") == [(lion, "left", 0.7)]
    assert listed(project, source="herd", field="viewpoint") == [(b, "right", 0.8), (a, "left", 0.9)]
    assert listed(project, annotation_ids=[b]) == [(b, "right", 0.8)]
    assert listed(project, annotation_ids=[]) == []
    assert listed(project, model="quality-1a2b3c4d") == [(a, "1", 0.5)]
    with project.database.reading() as connection:
        (one,) = list_proposals(connection, limit=1)
    assert (one.species, one.source, one.file_name, one.model) == ("zebra", "herd", "0.png", "quality-1a2b3c4d")
    with pytest.raises(UnknownName, match="did you mean 'viewpoint'"):
        ProposalFilter(field="viewpiont")
    with pytest.raises(InputError, match=r"confidence 1\.5: expected a number from 0 to 1"):
        ProposalFilter(least_confidence=1.5)


def test_a_species_that_is_proposed_is_a_species_to_look_for(project: Project) -> None:
    a, b, c, *_ = keys(project)
    forget(project, [a, b], species=None, individual_id=None)
    put(project, "species", {a: ("cow", 0.9), b: ("lion", 0.9)})
    put(project, "part", {a: ("face", 0.8), b: ("whole", 0.8), c: ("ear", 0.8)})
    put(project, "viewpoint", dict.fromkeys((a, b, c), ("left", 0.7)))
    for species, expected in (("cow+face", a), ("lion", b), ("zebra+ear", c)):
        assert listed(project, species=species, field="viewpoint") == [(expected, "left", 0.7)]
        (stored,) = [x for x in everything(project) if x.annotation_id == expected]
        assert stored.species == species  # as the store has it
    assert listed(project, species="cow") == []


def test_a_proposal_for_what_has_been_said_since_does_not_count(project: Project) -> None:
    a, b, c, *_ = keys(project)
    put(project, "viewpoint", {a: ("left", 0.9)})
    put(project, "species", {a: ("lion", 0.9)})
    put(project, "part", {b: ("face", 0.9), c: ("face", 0.9)})
    put(project, "quality", {b: ("1", 0.9)})
    forget(project, [a], viewpoint="right")
    forget(project, [b], quality=3.0, species="zebra+ear")
    assert listed(project) == [(c, "face", 0.9)]
    assert accepted(project, annotation_ids=[a, b]) == Decided(0, {}, {})
    found = {x.annotation_id: x for x in everything(project)}
    assert (found[a].viewpoint, found[a].species, found[b].quality) == ("right", "zebra", 3.0)
    with project.database.reading() as connection:
        assert count_proposals(connection) == {"part": {"face": 1}}


# Accepted


def test_an_accepted_value_is_the_annotation_s_own(project: Project) -> None:
    a, b, c, *_ = keys(project)
    put(project, "viewpoint", {a: ("left", 0.974), b: ("right", 0.6), c: ("left", 0.6)})
    before = {x.annotation_id: x for x in everything(project)}
    assert before[a].proposed == {"viewpoint"}
    rows, revision = len(ledger(project)), ledger(project)[-1]["revision"]
    assert accepted(project, field="viewpoint", least_confidence=0.9) == Decided(1, {"left": 1}, {})
    found = {x.annotation_id: x for x in everything(project)}
    assert (found[a].viewpoint, found[a].identity, found[a].proposed) == ("left", "z0|left", frozenset())
    assert found[b].proposed == {"viewpoint"}
    (entry,) = ledger(project)[rows:]
    assert entry["revision"] > revision
    assert {name: entry[name] for name in entry if name not in ("id", "revision", "at_utc")} == {
        "actor": "Ada", "action": "accept", "annotation_key": a, "species_before": "zebra", "species_after": "zebra",
        "individual_before": "z0", "individual_after": "z0", "viewpoint_before": None, "viewpoint_after": "left",
        "note": f"viewpoint left, proposed 0.97 by {HEAD}",
    }  # fmt: skip
    assert {name for name, *_ in listed(project)} == {b, c}
    # Accepting once more finds nothing.
    assert accepted(project, annotation_ids=[a]) == Decided(0, {}, {})


def test_several_fields_of_one_annotation_are_one_row_of_the_ledger(project: Project) -> None:
    a, *_ = keys(project)
    forget(project, [a], species=None, individual_id=None)
    put(project, "species", {a: ("holstein_cow", 0.9)})
    put(project, "part", {a: ("face", 0.8)})
    put(project, "viewpoint", {a: ("front", 0.7)})
    put(project, "quality", {a: ("2.5", 0.6)})
    rows = len(ledger(project))
    decided = accepted(project)
    assert decided == Decided(1, {"holstein_cow": 1, "face": 1, "front": 1, "2.5": 1}, {})
    (found,) = [x for x in everything(project) if x.annotation_id == a]
    assert (found.species, found.part, found.viewpoint, found.quality) == ("holstein_cow+face", "face", "front", 2.5)
    assert found.proposed == frozenset()
    (entry,) = ledger(project)[rows:]
    assert (entry["species_before"], entry["species_after"]) == (None, "holstein_cow+face")
    with project.database.reading() as connection:
        assert [settled(connection, field) for field in ("species", "part", "viewpoint", "quality")] == [
            {a: "holstein_cow"}, {a: "face"}, {a: "front"}, {a: "2.5"}
        ]  # fmt: skip


def test_a_part_waits_for_its_species(project: Project) -> None:
    a, b, *_ = keys(project)
    forget(project, [a, b], species=None, individual_id=None)
    put(project, "part", {a: ("face", 0.8)})
    decided = accepted(project)
    assert decided == Decided(0, {}, {"nobody has said the species yet: say it, or accept it, first": 1})
    assert listed(project) == [(a, "face", 0.8)]
    with pytest.raises(InputError, match="1 of 1 annotations cannot be corrected: nobody has said the species"):
        corrected(project, [b], "part", "face")
    corrected(project, [a], "species", "cow")
    assert accepted(project) == Decided(1, {"face": 1}, {})
    assert next(x for x in everything(project) if x.annotation_id == a).species == "cow+face"


def test_a_whole_animal_accepted_is_settled(project: Project) -> None:
    a, *_ = keys(project)
    put(project, "part", {a: ("whole", 0.8)})
    assert accepted(project) == Decided(1, {"whole": 1}, {})
    found = everything(project)[0]
    assert (found.species, found.part, listed(project)) == ("zebra", None, [])
    with project.database.reading() as connection:
        assert (settled(connection, "part"), settled(connection, "species")) == ({a: "whole"}, {})


def test_an_individual_goes_with_its_annotation_to_a_part_and_never_to_another_species(project: Project) -> None:
    a, b, c, *_ = keys(project)
    put(project, "part", {a: ("face", 0.8)})
    accepted(project)
    found = {x.annotation_id: x for x in everything(project)}
    assert (found[a].species, found[a].individual) == ("zebra+face", "z0")
    with project.database.reading() as connection:
        scopes = [tuple(r) for r in connection.execute(schema.individuals.select().order_by(schema.individuals.c.id))]
    assert scopes[-1][1:] == ("zebra+face", "z0")
    forget(project, [b], species=None)
    put(project, "species", {b: ("lion", 0.9)})
    decided = accepted(project)
    assert decided.annotations == 0
    (reason,) = decided.skipped
    assert reason.startswith("it is individual 'z1' of")
    before = contents(project)
    for value in ("lion", "unknown"):
        with pytest.raises(InputError, match=r"1 of 1 annotations cannot be corrected: it is individual 'z2'"):
            corrected(project, [c], "species", value)
    assert contents(project) == before
    corrected(project, [b], "species", "zebra")
    assert next(x for x in everything(project) if x.annotation_id == b).individual == "z1"


def test_an_individual_with_a_global_id_may_be_said_to_be_of_another_species(tmp_path: Path) -> None:
    project = with_settings(Project.init(tmp_path / "project"), 'global_ids = ["herd"]', under="sources")
    do_import(project, herd(tmp_path / "herd", [row(0)]))
    corrected(project, keys(project), "species", "quagga")
    (found,) = everything(project)
    assert (found.species, found.individual) == ("quagga", "z0")


# Corrected


def test_a_correction_takes_the_place_of_a_proposal_and_of_what_was_stated(project: Project) -> None:
    a, b, *_ = keys(project)
    put(project, "viewpoint", {a: ("left", 0.9)})
    assert corrected(project, [a, b, b], "viewpoint", "Right flank") == Decided(2, {"right": 2}, {})
    assert corrected(project, [b], "viewpoint", "left") == Decided(1, {"left": 1}, {})
    found = {x.annotation_id: x for x in everything(project)}
    assert (found[a].viewpoint, found[b].viewpoint, listed(project)) == ("right", "left", [])
    entries = {(e["annotation_key"], e["viewpoint_before"]): e for e in ledger(project) if e["action"] == "correct"}
    assert entries[a, None]["note"] == f"viewpoint right, instead of left proposed 0.90 by {HEAD}"
    assert entries[b, "right"]["note"] == "viewpoint left, by hand"
    assert len(entries) == 3


def test_unknown_is_a_decision_too(project: Project) -> None:
    a, b, *_ = keys(project)
    forget(project, [b], viewpoint="left")
    assert corrected(project, [a, b], "viewpoint", "unknown") == Decided(2, {"unknown": 2}, {})
    assert [x.viewpoint for x in everything(project)][:2] == [None, None]
    with project.database.reading() as connection:
        assert settled(connection, "viewpoint").keys() == {a, b}
    corrected(project, [a], "quality", "2.50")
    corrected(project, [b], "quality", "Unknown")
    assert [x.quality for x in everything(project)][:2] == [2.5, None]


def test_a_part_is_corrected_within_its_species(project: Project) -> None:
    a, *_ = keys(project)
    for value, species in (("face", "zebra+face"), ("ear", "zebra+ear"), ("whole", "zebra"), ("unknown", "zebra")):
        corrected(project, [a], "part", value)
        (found,) = [x for x in everything(project) if x.annotation_id == a]
        assert (found.species, found.individual) == (species, "z0")


@pytest.mark.parametrize(
    ("field", "value", "message"),
    [
        ("viewpoint", "sideways", "viewpoint 'sideways': expected left, right, front, back, up, down or unknown"),
        ("quality", "good", "quality 'good': expected a number or unknown"),
        ("quality", "nan", "quality 'nan': expected a number"),
        ("species", " ", "species ' ': expected a name such as lion"),
        ("part", "cow+face", r"part 'cow\+face': expected a name such as face, whole"),
        ("side", "left", "no attribute named 'side'"),
    ],
)
def test_values_that_cannot_be_are_refused(project: Project, field: str, value: str, message: str) -> None:
    with pytest.raises(InputError, match=message):
        corrected(project, keys(project), field, value)


def test_unknown_annotations_are_refused_and_nothing_is_changed(project: Project) -> None:
    a, *_ = keys(project)
    put(project, "viewpoint", {a: ("left", 0.9)})
    before = contents(project)
    for act in (
        lambda: accepted(project, annotation_ids=[a, "nobody"]),
        lambda: turned_down(project, annotation_ids=[a, "nobody"]),
        lambda: corrected(project, [a, "nobody"], "viewpoint", "left"),
    ):
        with pytest.raises(UnknownName, match="no annotation named 'nobody'"):
            act()
    assert contents(project) == before


# Rejected


def test_a_rejected_value_goes_and_is_remembered(project: Project) -> None:
    a, b, *_ = keys(project)
    put(project, "viewpoint", {a: ("left", 0.9), b: ("left", 0.9)})
    put(project, "species", {a: ("zebra, plains", 0.9)})
    forget(project, [a], species=None, individual_id=None)
    assert turned_down(project, annotation_ids=[a]) == Decided(1, {"zebra, plains": 1, "left": 1}, {})
    found = {x.annotation_id: x for x in everything(project)}
    assert (found[a].viewpoint, found[a].species, listed(project)) == (None, None, [(b, "left", 0.9)])
    with project.database.reading() as connection:
        assert rejected(connection, "viewpoint") == {a: {"left"}}
        assert rejected(connection, "species") == {a: {"zebra, plains"}}
        assert rejected(connection, "part") == {}
        assert settled(connection, "viewpoint") == {}
    entry = ledger(project)[-1]
    assert (entry["action"], entry["viewpoint_before"], entry["viewpoint_after"]) == ("reject", None, None)


# Imported again, split


def test_what_was_accepted_or_corrected_survives_importing_again(tmp_path: Path) -> None:
    project = Project.init(tmp_path / "project")
    rows = [row(n, viewpoint="" if n < 3 else "left", quality=2 if n > 2 else "") for n in range(5)]
    path = herd(tmp_path / "herd", rows)
    do_import(project, path)
    a, b, c, d, e = keys(project)
    put(project, "viewpoint", {a: ("right", 0.9)})
    put(project, "part", {b: ("face", 0.9)})
    accepted(project)
    corrected(project, [d], "viewpoint", "up")
    corrected(project, [e], "viewpoint", "unknown")
    corrected(project, [c, d], "quality", "3")
    corrected(project, [e], "quality", "unknown")
    before = everything(project)
    report = do_import(project, path)
    assert (report.added, report.updated, report.unchanged) == (0, 0, 5)
    assert everything(project) == before
    assert [x.viewpoint for x in before] == ["right", None, None, "up", None]
    assert before[1].species == "zebra+face"
    assert [x.quality for x in before] == [None, None, 3.0, 3.0, None]


def test_proposals_are_never_labels_of_a_split(tmp_path: Path) -> None:
    project = Project.init(tmp_path / "project")
    do_import(project, two_species(tmp_path / "herd", animals=8))
    names = keys(project)
    forget(project, names[:10], viewpoint=None)
    put(project, "viewpoint", dict.fromkeys(names[:10], ("left", 0.99)))
    with_proposals = make_split(everything(project), name="s", seed=0)
    assert not {m.annotation_id for m in with_proposals.members} & set(names[:10])
    accepted(project)
    after = {m.annotation_id for m in make_split(everything(project), name="s", seed=0).members}
    assert after & set(names[:10])


def test_grades_are_written_in_few_digits_where_they_are_enough() -> None:
    assert [grade_text(grade) for grade in (3.0, 0.5, 0.1234567)] == ["3", "0.5", "0.1234567"]
