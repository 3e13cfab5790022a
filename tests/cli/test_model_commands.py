"""The computing commands as a user meets them, on one small made-up catalogue."""

from __future__ import annotations

import csv
import json
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
from numpy.typing import NDArray

from resight.cli import run
from resight.demo.population import Population, draw_population
from resight.ranking import TIE
from resight.settings import read, set_viewpoint_policy

from .conftest import Command

QUICK = ("--set", "epochs=1", "--set", "image_size=64", "--backbone", "test_efficientnet", "--set", "weights=none")


@pytest.fixture(scope="module")
def population(tmp_path_factory: pytest.TempPathFactory) -> Population:
    return draw_population(
        tmp_path_factory.mktemp("drawn") / "photos", individuals=8, encounters=4, photos_per_encounter=1
    )


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory, population: Population) -> Path:
    folder = tmp_path_factory.mktemp("projects") / "demo"
    assert run(["init", str(folder)]) == 0
    for drawn in population.species:
        set_viewpoint_policy(read(folder), drawn.species, drawn.policy)
        assert run(["--project", str(folder), "import", str(drawn.path), "--source", drawn.path.parent.name]) == 0
    assert run(["--project", str(folder), "split", "s", "--seed", "1"]) == 0
    assert run(["--project", str(folder), "train", "r", "--split", "s", *QUICK]) == 0
    return folder


@pytest.mark.parametrize(
    ("words", "named"),
    [
        (("evaluate", "--split", "s", "--model", "bogus"), "bogus"),
        (("evaluate", "--split", "s", "--rerank", "global"), "global"),
        (("embed", "--runtime", "onxx"), "onxx"),
        (("export-model", "bogus", "--format", "onnx"), "bogus"),
        (("export-model", "r", "--format", "coreml"), "coreml"),
        (("match", "missing.jpg", "--species", "demo_bandbuck"), "missing.jpg"),
        (("match", "missing.jpg"), "--species"),
        (("match", "missing.jpg", "--species", "unicorn"), "unicorn"),
    ],
)
def test_wrong_input_is_one_line_that_names_the_value(resight: Command, words: tuple[str, ...], named: str) -> None:
    assert named in resight(*words, expect=2)


@pytest.mark.parametrize("box", ["1,2,3", "a,b,c,d", "1,2,0,4", "9999,0,5,5"])
def test_a_wrong_box_is_one_line(resight: Command, population: Population, box: str) -> None:
    query = population.species[0].query
    assert "--box" in resight("match", str(query.path), "--species", query.species, "--box", box, expect=2)


def test_a_wrong_viewpoint_is_one_line(resight: Command, population: Population) -> None:
    query = population.species[0].query
    words = ("match", str(query.path), "--species", query.species, "--viewpoint", "sideways")
    assert "sideways" in resight(*words, expect=2)


def test_a_viewpoint_is_understood_in_any_spelling(resight: Command, population: Population) -> None:
    query = population.species[0].query
    words = ("match", str(query.path), "--species", query.species, "--model", "r", "--json")
    (answer,) = resight(*words, "--viewpoint", "Left_Side")["queries"]
    assert (answer["viewpoint"], answer["model"]) == ("left", "r")


def test_an_output_never_takes_the_place_of_a_photo(resight: Command, population: Population, tmp_path: Path) -> None:
    query = population.species[0].query
    photo = tmp_path / "mine.JPG"
    photo.write_bytes(b"a photo")
    for words in (
        ("match", str(query.path), "--species", query.species, "--html", str(photo)),
        ("evaluate", "--split", "s", "--per-query", str(photo)),
        ("export", "csv", str(photo)),
    ):
        assert "named like a photo" in resight(*words, expect=2)
    assert photo.read_bytes() == b"a photo"


def test_one_box_is_not_taken_for_several_photos(resight: Command, population: Population) -> None:
    photo = str(population.species[0].query.path)
    words = ("match", photo, photo, "--species", population.species[0].species, "--box", "1,1,50,50")
    assert "--box is of one photo, and 2 were given" in resight(*words, expect=2)


def test_embed_makes_what_is_missing_once(resight: Command, project: Path) -> None:
    first = resight("embed", "--model", "r", "--json")
    again = resight("embed", "--model", "r", "--json")
    everything = first["embedded"] + first["reused"]
    assert again["embedded"] == 0
    assert again["reused"] == everything
    assert again["model"] == "r"
    vectors = np.load(project / "embeddings" / "r" / "vectors.npy")
    ids = pq.read_table(project / "embeddings" / "r" / "annotations.parquet")["annotation_id"].to_pylist()
    assert vectors.dtype == np.float16
    assert len(vectors) == len(ids) == everything


def test_evaluate_agrees_with_a_naive_loop_over_the_files_that_others_read(
    resight: Command, project: Path, tmp_path: Path
) -> None:
    result = resight("evaluate", "--split", "s", "--model", "r", "--json")
    resight("embed", "--model", "r")
    resight("export", "csv", str(tmp_path / "rows.csv"), "--split", "s")
    vectors = np.load(project / "embeddings" / "r" / "vectors.npy").astype(np.float64)
    ids = pq.read_table(project / "embeddings" / "r" / "annotations.parquet")["annotation_id"].to_pylist()
    unit = dict(zip(ids, vectors / np.linalg.norm(vectors, axis=1, keepdims=True), strict=True))
    with (tmp_path / "rows.csv").open(encoding="utf-8") as file:
        test = [row for row in csv.DictReader(file) if row["subset"] == "test"]
    for entry in result["species"]:
        rows = [row for row in test if row["species"] == entry["species"]]
        hits = []
        for query in rows:
            others = [o for o in rows if o is not query and o["encounter"] != query["encounter"]]
            if not any(o["identity"] == query["identity"] for o in others):
                continue
            # A match must beat a non-match by more than rounding; this model is nearly collapsed.
            best = max(others, key=lambda o: _cosine(unit, o, query) - TIE * (o["identity"] == query["identity"]))
            hits.append(best["identity"] == query["identity"])
        assert entry["queries"] == len(hits) > 0
        assert entry["top1"] == pytest.approx(100 * np.mean(hits), abs=0.01)
        assert entry["top1"] <= entry["top5"] <= entry["top10"] <= entry["top20"]
        assert entry["top1_ci95"][0] <= entry["top1"] <= entry["top1_ci95"][1]
        named = {"species", "individuals", "excluded", "map", "top1_seen", "top1_unseen"}
        assert named <= entry.keys()
    assert result["macro"]["top1"] == pytest.approx(np.mean([e["top1"] for e in result["species"]]), abs=0.01)


def _cosine(unit: Mapping[str, NDArray[np.float64]], one: Mapping[str, str], other: Mapping[str, str]) -> float:
    return float(unit[one["annotation_id"]] @ unit[other["annotation_id"]])


def test_the_default_model_is_the_newest_run(resight: Command) -> None:
    listed = resight("models", "--json")["models"]
    assert {"name", "backbone", "dim", "image_size", "licence", "available"} <= listed[0].keys()
    newest = resight("evaluate", "--split", "s", "--species", "demo_bandbuck", "--json")["model"]
    assert newest in {model["name"] for model in listed if model["name"] != "imagenet-lite0"}


def test_match_accounts_for_every_annotation(resight: Command, population: Population, tmp_path: Path) -> None:
    drawn = population.species[0]
    query = drawn.query
    box = f"{query.box.x},{query.box.y},{query.box.w},{query.box.h}"
    sheet = tmp_path / "sheet.html"
    words = ("--species", query.species, "--viewpoint", query.viewpoint, "--box", box, "--model", "r", "-k", "7")
    (answer,) = resight("match", str(query.path), *words, "--html", str(sheet), "--json")["queries"]
    assert answer["compared"] + sum(answer["excluded"].values()) == drawn.annotations
    assert answer["boxes"] == [{"x": query.box.x, "y": query.box.y, "w": query.box.w, "h": query.box.h}]
    assert answer["excluded"].keys() == {"other side"}
    assert [candidate["rank"] for candidate in answer["candidates"]] == list(range(1, 8))
    scores = [candidate["score"] for candidate in answer["candidates"]]
    assert scores == sorted(scores, reverse=True)
    assert answer["p_new"] is None
    assert all(candidate["p_same"] is None for candidate in answer["candidates"])
    names = list(dict.fromkeys(candidate["individual_id"] for candidate in answer["candidates"]))
    assert [named["individual_id"] for named in answer["individuals"]] == names
    assert sheet.read_text(encoding="utf-8").count("<figure>") == 7


def test_a_photo_of_the_catalogue_is_not_compared_with_itself(resight: Command, population: Population) -> None:
    drawn = population.species[0]
    photo = sorted((drawn.images / "images").glob("*.jpg"))[0]
    (answer,) = resight("match", str(photo), "--species", drawn.species, "--model", "r", "--json")["queries"]
    assert answer["excluded"]["same photo"] == 1
    assert answer["compared"] + sum(answer["excluded"].values()) == drawn.annotations


def test_several_photos_of_one_animal_are_one_query(resight: Command, population: Population) -> None:
    query = population.species[2].query
    words = ("match", str(query.path), str(query.path), "--species", query.species, "--model", "r", "--json")
    assert len(resight(*words)["queries"]) == 2
    assert len(resight(*words, "--same-animal")["queries"]) == 1


def test_a_model_is_exported_and_embeds_as_the_network_does(resight: Command, project: Path) -> None:
    result = resight("export-model", "r", "--format", "onnx", "--json")
    assert {"path", "format", "cosine_min", "same_top1"} <= result.keys()
    assert result["cosine_min"] >= 0.999
    assert Path(result["path"]) == project / "runs" / "r" / "exports" / "onnx" / "model.onnx"
    by_torch = resight("embed", "--model", "r", "--anew", "--json")
    folder = project / "embeddings" / "r"
    expected = np.load(folder / "vectors.npy").astype(np.float32)
    by_onnx = resight("embed", "--model", "r", "--anew", "--runtime", "onnx", "--json")
    assert (by_torch["runtime"], by_onnx["runtime"]) == ("torch float32", "onnx float32")
    assert by_onnx["embedded"] == by_torch["embedded"] == len(expected)
    found = np.load(folder / "vectors.npy").astype(np.float32)
    cosines = (found * expected).sum(1) / np.linalg.norm(found, axis=1) / np.linalg.norm(expected, axis=1)
    assert cosines.min() >= 0.999
    assert json.loads((folder / "passport.json").read_text())["recorded"]["made_by"] == ["onnx float32"]
    assert resight("embed", "--model", "r", "--json")["reused"] == len(expected)  # another runtime, and they still fit
