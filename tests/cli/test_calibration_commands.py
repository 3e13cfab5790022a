"""Probabilities, local evidence and what is compared, as a user meets them."""

from __future__ import annotations

import json
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from resight.calibration import shortlists, stopping
from resight.cli import run
from resight.demo.population import Population, draw_population
from resight.matching.local import comparer

from ..catalogue.projects import two_species
from .conftest import Command

SPECIES = "demo_bandbuck"


@pytest.fixture(scope="module")
def population(tmp_path_factory: pytest.TempPathFactory) -> Population:
    return draw_population(
        tmp_path_factory.mktemp("drawn") / "photos", individuals=16, encounters=4, photos_per_encounter=1
    )


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory, population: Population) -> Path:
    folder = tmp_path_factory.mktemp("projects") / "demo"
    assert run(["init", str(folder)]) == 0
    drawn = next(one for one in population.species if one.species == SPECIES)
    assert run(["--project", str(folder), "import", str(drawn.path), "--source", "known"]) == 0
    assert run(["--project", str(folder), "split", "s", "--protocol", "disjoint", "--train-fraction", "0.1"]) == 0
    settings = folder / "resight.toml"
    settings.write_text(
        settings.read_text().replace(
            "[local]\n", '[local]\nextractor = "xfeat"\npoints = 64\nshortlist = 4\nforeground = "box"\n'
        )
    )
    return folder


@pytest.fixture(scope="module")
def photo(population: Population) -> str:
    return str(next((next(o for o in population.species if o.species == SPECIES).path.parent / "images").glob("*")))


def first(document: Any) -> Any:
    return document["queries"][0]


def test_scores_become_probabilities_once_calibrated(resight: Command, photo: str) -> None:
    before = first(resight("match", photo, "--json"))
    assert before["p_new"] is None
    assert {c["p_same"] for c in before["candidates"]} == {None}
    made = resight("calibrate", "--split", "s", "--costs", "1:5", "--json")
    (species,) = made["species"]
    assert species["species"] == SPECIES
    assert species["confirmed_pairs"] >= 20
    assert species["note"] is None
    assert 0 <= species["reliability"]["all pairs"]["ece"] <= 1
    assert species["operating_point"]["cost_false"] == 5
    assert json.loads(Path(made["path"]).read_text())["kind"] == "calibration"
    after = first(resight("match", photo, "--json"))
    p = [c["p_same"] for c in after["candidates"]]
    assert all(0 <= one <= 1 for one in p)
    assert p[0] == max(p)
    assert 0 <= after["p_new"] <= 1
    assert after["individuals"][0]["p_same"] == p[0]
    assert "P(new)" in resight("match", photo)
    few, many = (first(resight("match", photo, "--new-share", s, "--json"))["p_new"] for s in ("0.2", "0.5"))
    assert many / (1 - many) == pytest.approx(4 * few / (1 - few), rel=0.05)


def test_local_evidence_reranks_and_its_calibration_is_its_own(resight: Command, photo: str, tmp_path: Path) -> None:
    found = first(resight("match", photo, "-k", "6", "--rerank", "local", "--html", str(tmp_path / "s.html"), "--json"))
    compared = [c["evidence"] for c in found["candidates"]]
    assert [one is None for one in compared] == [False] * 4 + [True] * 2
    strength = [one["numbers"][0] for one in compared[:4]]
    assert strength == sorted(strength, reverse=True)
    assert {c["p_same"] for c in found["candidates"]} == {None}  # that of the cosine alone is another calibration
    page = (tmp_path / "s.html").read_text(encoding="utf-8")
    assert "points match" in page
    made = resight("calibrate", "--split", "s", "--rerank", "local", "--json")
    assert made["path"].endswith("local.json")
    after = first(resight("match", photo, "-k", "6", "--rerank", "local", "--json"))
    assert [c["p_same"] is None for c in after["candidates"]] == [False] * 4 + [True] * 2
    scored = resight("evaluate", "--split", "s", "--rerank", "local", "--json")["species"][0]
    assert scored["queries"] > 50
    alone = resight("evaluate", "--split", "s", "--json")["species"][0]
    assert scored["top20"] == alone["top20"]  # only the shortlist is put in another order


def test_the_search_ends_where_the_calibration_found_evidence_decisive(
    resight: Command, photo: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(stopping, "GROUP", 2)
    monkeypatch.setattr(comparer, "GROUP", 2)
    monkeypatch.setattr(shortlists, "find_stop", partial(stopping.find_stop, surely=0.2))
    made = resight("calibrate", "--split", "s", "--rerank", "local", "--recall", "0.5", "--json")
    (species,) = made["species"]
    assert species["shortlist"]["candidates"] == 4  # [local] shortlist, which is shorter than any by recall
    assert species["shortlist"]["wanted"] == 0.5
    assert 0 < species["shortlist"]["reached"] <= 1
    assert species["decisive"]["right"] >= 0.2
    assert species["decisive"]["saved"] > 0
    answer = ("match", photo, "-k", "6", "--rerank", "local")
    found = first(resight(*answer, "--html", str(tmp_path / "s.html"), "--json"))
    looked = [c["evidence"] is not None for c in found["candidates"]]
    assert sum(looked) == 2
    assert [c["p_same"] is None for c in found["candidates"]] == [False] * 4 + [True] * 2
    assert "Compared locally: 2 of 4, then the evidence was decisive." in found["p_new_note"]
    assert "points not compared" in (tmp_path / "s.html").read_text(encoding="utf-8")
    widened = first(resight(*answer, "--include", "other-side", "--json"))
    nearest = sorted(widened["candidates"], key=lambda c: -c["score"])[:2]
    ended = [c for c in nearest if not c["despite"] and c["evidence"]["numbers"][0] >= species["decisive"]["decisive"]]
    assert sum(c["evidence"] is not None for c in widened["candidates"]) == (2 if ended else 4)
    path = Path(made["path"])
    document = json.loads(path.read_text(encoding="utf-8"))
    document["first_right"] = {SPECIES: [0.91, 0.9]}
    document["lengths"][SPECIES]["candidates"] = 3
    path.write_text(json.dumps(document), encoding="utf-8")
    shorter = first(resight(*answer, "--json"))
    assert [c["p_same"] is None for c in shorter["candidates"]] == [False] * 3 + [True] * 3
    assert f"did not help {SPECIES}" in shorter["p_new_note"]


def test_only_the_species_asked_for_need_what_local_evidence_needs(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "two"
    assert run(["init", str(folder)]) == 0
    assert run(["--project", str(folder), "import", str(two_species(tmp_path / "drawn", animals=4))]) == 0
    assert run(["--project", str(folder), "split", "s", "--protocol", "disjoint", "--train-fraction", "0.1"]) == 0
    rules = '[local]\nextractor = "xfeat"\npoints = 16\nshortlist = 2\n[local.lion]\nextractor = "loftr"\n'
    settings = folder / "resight.toml"
    settings.write_text(settings.read_text().replace("[local]\n", rules))
    asked = ["--project", str(folder), "calibrate", "--split", "s", "--rerank", "local"]
    assert run([*asked, "--species", "zebra"]) == 0
    assert len(list((folder / "local" / "foreground").iterdir())) == 1  # how zebras look, and not lions
    capsys.readouterr()
    assert run([*asked, "--species", "lion,zebra"]) == 2
    assert "the extractor 'loftr' needs a file of weights" in capsys.readouterr().err


def test_what_is_left_out_is_told_and_can_be_included(resight: Command, photo: str) -> None:
    found = first(resight("match", photo, "--json"))
    assert found["compared"] + sum(found["excluded"].values()) == 128
    assert found["excluded"]["other side"] == 64
    assert "64 other side" in resight("match", photo)
    wider = first(resight("match", photo, "-k", "100", "--include", "other-side", "--json"))
    assert wider["compared"] == found["compared"] + 64
    assert "other side" not in wider["excluded"]
    assert any(c["despite"] == ["other side"] for c in wider["candidates"])


@pytest.mark.parametrize(
    ("words", "complaint"),
    [
        (["calibrate", "--split", "t"], "no split named 't'"),
        (["calibrate", "--split", "s", "--costs", "5"], "--costs '5'"),
        (["calibrate", "--split", "s", "--costs", "1:-5"], "--costs '1:-5'"),
        (["calibrate", "--split", "s", "--rerank", "glue"], "--rerank 'glue'"),
        (["calibrate", "--split", "s", "--rerank", "local", "--recall", "90"], "--recall 90: expected a share"),
        (["calibrate", "--split", "s", "--recall", "0.9"], "add --rerank local"),
        (["match", "PHOTO", "--include", "other"], "no reason that can be included named 'other'"),
        (["match", "PHOTO", "--new-share", "1"], "share of new animals 1"),
        (["match", "PHOTO", "--same-animal", "--by-encounter"], "give one of them"),
        (["evaluate", "--split", "s", "--rerank", "local", "--against", "x"], "leave --rerank out"),
    ],
)
def test_wrong_input_gives_one_line(resight: Command, photo: str, words: list[str], complaint: str) -> None:
    assert complaint in resight(*(photo if word == "PHOTO" else word for word in words), expect=2)
