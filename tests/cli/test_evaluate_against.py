"""``resight evaluate --against``: two tiny untrained models on one small made-up catalogue."""

from __future__ import annotations

import csv
import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch

from resight.cli import run
from resight.models.weights import new_embedder

from ..catalogue.projects import two_species
from .conftest import Command


def make_run(project: Path, name: str, seed: int, **config: Any) -> None:
    """A run as training leaves it, but with random weights."""
    torch.manual_seed(seed)
    folder = project / "runs" / name
    new_embedder("test_efficientnet", weights="none", image_size=64).save(folder / "model")
    (folder / "config.json").write_text(json.dumps({"run": name, **config}), encoding="utf-8")


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    table = two_species(tmp_path_factory.mktemp("drawn"), animals=14)
    folder = tmp_path_factory.mktemp("projects") / "demo"
    assert run(["init", str(folder)]) == 0
    assert run(["--project", str(folder), "import", str(table)]) == 0
    for name, seed in (("s", "1"), ("t", "2")):
        assert run(["--project", str(folder), "split", name, "--seed", seed]) == 0
    make_run(folder, "v1", 1, split="s", split_seed=1, set_aside_used=False, classes=[])
    make_run(folder, "v2", 2, split="s", split_seed=1, set_aside_used=False, classes=[])
    return folder


def test_the_document_keeps_what_evaluate_gives_and_adds_the_comparison(resight: Command, project: Path) -> None:
    alone = {name: resight("evaluate", "--split", "s", "--model", name, "--json") for name in ("v1", "v2")}
    document = resight("evaluate", "--split", "s", "--model", "v2", "--against", "v1", "--json")
    against = document.pop("against")
    assert document == alone["v2"]
    assert "against" not in alone["v2"]
    assert (document["model"], against["model"], document["comparable"], against["comparable"]) == (
        "v2", "v1", True, True,
    )  # fmt: skip
    assert len(against["species"]) == 2
    for one, new, old in zip(against["species"], alone["v2"]["species"], alone["v1"]["species"], strict=True):
        assert (one["species"], one["queries"]) == (new["species"], new["queries"])
        assert (one["top1_old"], one["top1_new"]) == (old["top1"], new["top1"])
        assert (one["map_old"], one["map_new"]) == (old["map"], new["map"])
        assert one["difference"] == pytest.approx(new["top1"] - old["top1"], abs=0.011)
        assert one["difference"] == pytest.approx(100 * (one["only_new"] - one["only_old"]) / one["queries"], abs=0.006)
        assert one["difference_ci95"][0] <= one["difference"] <= one["difference_ci95"][1]
        assert one["verdict"] in ("worse", "better", "no clear difference")
    assert against["worse"] == [one["species"] for one in against["species"] if one["verdict"] == "worse"]
    differences = [one["difference"] for one in against["species"]]
    assert against["macro"]["difference"] == pytest.approx(sum(differences) / 2, abs=0.011)
    assert against["macro"]["difference_ci95"][0] <= against["macro"]["difference"]


def test_the_report_is_kept_for_the_whole_split_only(resight: Command, project: Path) -> None:
    report = project / "reports" / "evaluate-v1-against-v2-s.json"
    [species, *_] = resight("evaluate", "--split", "s", "--model", "v1", "--json")["species"]
    words = ("evaluate", "--split", "s", "--model", "v1", "--against", "v2", "--json")
    part = resight(*words, "--species", species["species"])
    assert not report.exists()
    whole = resight(*words)
    assert json.loads(report.read_text(encoding="utf-8")) == whole
    [only] = part["against"]["species"]
    first = whole["against"]["species"][0]
    assert {**only, "p_holm": None} == {**first, "p_holm": None}


def test_the_text_has_one_table_worst_first_and_ends_with_what_got_worse(resight: Command) -> None:
    document = resight("evaluate", "--split", "s", "--model", "v2", "--against", "v1", "--json")
    text = resight("evaluate", "--split", "s", "--model", "v2", "--against", "v1")
    assert "model v2 against v1 on split s" in text
    ordered = sorted(document["against"]["species"], key=lambda one: (one["difference"], one["species"]))
    places = [text.index(one["species"]) for one in ordered]
    assert places == sorted(places)
    last = text.strip().splitlines()[-1]
    if document["against"]["worse"]:
        assert last.startswith("of these, beyond chance")
    else:
        assert last == "no species is clearly worse"


def test_a_species_that_got_worse_is_named_with_its_interval(resight: Command, project: Path) -> None:
    """The vectors of a model that knows every animal are put in the place of one's."""
    make_run(project, "seer", 5)
    resight("embed", "--model", "seer", "--split", "s")
    resight("export", "csv", str(project / "rows.csv"), "--split", "s")
    with (project / "rows.csv").open(encoding="utf-8") as file:
        identity = {row["annotation_id"]: row["identity"] for row in csv.DictReader(file)}
    folder = project / "embeddings" / "seer"
    ids = pq.read_table(folder / "annotations.parquet")["annotation_id"].to_pylist()
    names = sorted(set(identity.values()))
    vectors = np.load(folder / "vectors.npy")
    vectors[:] = 0
    vectors[np.arange(len(ids)), [names.index(identity[one]) for one in ids]] = 1
    np.save(folder / "vectors.npy", vectors)
    words = ("evaluate", "--split", "s", "--model", "v2", "--against", "seer")
    against = resight(*words, "--json")["against"]
    assert [one["top1_old"] for one in against["species"]] == [100.0, 100.0]
    assert len(against["worse"]) == 2
    assert all(one["only_new"] == 0 and one["difference_ci95"][1] < 0 for one in against["species"])
    *_, worse, beyond = resight(*words).strip().splitlines()
    assert worse.startswith(f"worse: {against['worse'][0]} (-")
    assert " to -" in worse
    assert beyond == f"of these, beyond chance among 2 species (Holm): {', '.join(against['worse_beyond_chance'])}"
    better = resight("evaluate", "--split", "s", "--model", "seer", "--against", "v2", "--json")["against"]
    assert [one["verdict"] for one in better["species"]] == ["better", "better"]
    assert better["worse"] == []
    shutil.rmtree(project / "runs" / "seer")


def test_what_a_model_was_trained_on_is_read_from_its_run(resight: Command, project: Path) -> None:
    resight("export", "csv", str(project / "trained.csv"), "--split", "t")
    with (project / "trained.csv").open(encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    classes = [
        {"species": species, "identity": identity, "annotations": 3}
        for species, identity in sorted({(r["species"], r["identity"]) for r in rows if r["subset"] == "train"})
    ]
    make_run(project, "elsewhere", 6, split="t", split_seed=2, set_aside_used=False, classes=classes)
    resight("export", "csv", str(project / "tested.csv"), "--split", "s")
    with (project / "tested.csv").open(encoding="utf-8") as file:
        tested = [row for row in csv.DictReader(file) if row["subset"] == "test"]
    encounters = {row["encounter"] for row in rows if row["subset"] == "train"}
    met = sum(row["encounter"] in encounters for row in tested)
    assert 0 < met < len(tested)
    document = resight("evaluate", "--split", "s", "--model", "v2", "--against", "elsewhere", "--json")
    against = document["against"]
    assert (document["comparable"], against["comparable"]) == (True, False)
    assert any(f"met {met} of its {len(tested)} test annotations" in warning for warning in document["warnings"])
    alone = resight("evaluate", "--split", "s", "--model", "elsewhere", "--json")
    assert alone["comparable"] is False
    for one, own in zip(against["species"], alone["species"], strict=True):
        assert one["queries"] + one["trained_on"] == own["queries"]
    assert sum(one["trained_on"] for one in against["species"]) > 0
    text = resight("evaluate", "--split", "s", "--model", "v2", "--against", "elsewhere")
    assert f"warning: elsewhere was trained on split 't', not on 's', and met {met} of its" in text


def test_a_model_is_not_compared_with_itself(resight: Command, project: Path) -> None:
    words = ("evaluate", "--split", "s", "--model", "v1", "--against")
    assert "'v1' is the same model as 'v1'; name the older one" in resight(*words, "v1", expect=2)
    shutil.copytree(project / "runs" / "v1" / "model", project / "copy")
    assert "is the same model as 'v1'" in resight(*words, str(project / "copy"), expect=2)
    assert "'bogus'" in resight(*words, "bogus", expect=2)
