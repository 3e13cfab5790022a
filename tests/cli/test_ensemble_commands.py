"""Several models as one, as a user meets it: two tiny untrained models with chips of different sizes."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch

from resight.cli import run
from resight.models.weights import new_embedder

from ..catalogue.projects import two_species
from .conftest import Command

BOTH = ("--model", "v2", "--model", "v1")
SPECIES = "zebra"


def make_run(project: Path, name: str, seed: int, image_size: int, **config: Any) -> None:
    """A run as training leaves it, but with random weights."""
    torch.manual_seed(seed)
    folder = project / "runs" / name
    new_embedder("test_efficientnet", weights="none", image_size=image_size).save(folder / "model")
    (folder / "config.json").write_text(json.dumps({"run": name, **config}), encoding="utf-8")


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("projects") / "demo"
    table = two_species(tmp_path_factory.mktemp("drawn"), animals=14)
    assert run(["init", str(folder)]) == 0
    assert run(["--project", str(folder), "import", str(table)]) == 0
    assert run(["--project", str(folder), "split", "s", "--protocol", "disjoint", "--train-fraction", "0.1"]) == 0
    make_run(folder, "v1", 1, 64, split="s", split_seed=0, set_aside_used=False, classes=[])
    make_run(folder, "v2", 2, 96, split="other", split_seed=0, set_aside_used=False, classes=[])
    (folder / "a photo").write_bytes(next(table.parent.rglob("zebra0.png")).read_bytes())
    return folder


def match(resight: Command, project: Path, *words: str, **options: Any) -> Any:
    """Candidates for a photo of a zebra."""
    return resight("match", str(project / "a photo"), "--species", SPECIES, *words, **options)


def shares_told(document: Any) -> str:
    (told,) = [warning for warning in document["warnings"] if "how much each model counts" in warning]
    return str(told)


def test_models_answer_as_one_once_they_are_calibrated(resight: Command, project: Path) -> None:
    complaint = resight("evaluate", "--split", "s", *BOTH, expect=2)
    assert "models v1 and v2 have not been calibrated together, nor has v1 by itself" in complaint
    assert "`resight calibrate --split s --model v1 --model v2`" in complaint
    assert "--split SPLIT" in match(resight, project, *BOTH, expect=2)

    for name in ("v1", "v2"):
        assert "shares" not in resight("calibrate", "--split", "s", "--model", name, "--json")
    averaged = resight("evaluate", "--split", "s", *BOTH, "--json")
    assert averaged["model"] == "v1+v2"
    assert "each by itself on split s" in shares_told(averaged)
    assert "a trifle too good" in shares_told(averaged)
    assert not averaged["comparable"]  # v2 was trained on a split that is not there
    assert json.loads((project / "reports" / "evaluate-v1+v2-s.json").read_text(encoding="utf-8")) == averaged
    before = match(resight, project, *BOTH, "--json")["queries"][0]
    assert {c["p_same"] for c in before["candidates"]} == {None}  # of the two together there is no calibration yet

    made = resight("calibrate", "--split", "s", *BOTH, "--json")
    shares = made["shares"][SPECIES]
    assert list(shares) == ["v1", "v2"]
    assert sum(shares.values()) == pytest.approx(1, abs=1e-3)
    assert made["path"] == str(project / "calibrations" / "v1+v2" / "cosine.json")
    fitted = resight("evaluate", "--split", "s", *BOTH, "--json")
    assert "together on split s" in shares_told(fitted)
    assert fitted["weights_hash"] != averaged["weights_hash"]
    assert fitted["species"][0]["queries"] == averaged["species"][0]["queries"]

    after = match(resight, project, *BOTH, "--json")["queries"][0]
    assert after["model"] == "v1+v2"
    assert all(0 <= c["p_same"] <= 1 for c in after["candidates"])
    turned = match(resight, project, *reversed_pairs(BOTH), "--json")["queries"][0]
    assert turned == after


def reversed_pairs(words: tuple[str, ...]) -> tuple[str, ...]:
    """``--model B --model A`` of ``--model A --model B``."""
    return (*words[2:], *words[:2])


def test_scores_are_the_models_own_each_times_its_share(resight: Command, project: Path) -> None:
    shares = resight("calibrate", "--split", "s", *BOTH, "--json")["shares"][SPECIES]

    def scores(*models: str) -> dict[str, float]:
        found = match(resight, project, *models, "-k", "200", "--json")["queries"][0]["candidates"]
        return {c["annotation_id"]: c["score"] for c in found}

    joint, first, second = scores(*BOTH), scores("--model", "v1"), scores("--model", "v2")
    assert len(joint) > 40
    for key, score in joint.items():
        assert score == pytest.approx(shares["v1"] * first[key] + shares["v2"] * second[key], abs=2e-3)


def test_a_sheet_is_written_without_a_look_of_any_one_model(resight: Command, project: Path, tmp_path: Path) -> None:
    resight("calibrate", "--split", "s", *BOTH, "--json")
    pages = []
    for name, models in (("both", BOTH), ("one", ("--model", "v1"))):
        match(resight, project, *models, "--html", str(tmp_path / f"{name}.html"))
        pages.append((tmp_path / f"{name}.html").read_text(encoding="utf-8"))
    assert "v1+v2" in pages[0]
    assert "looked" in pages[1]
    assert "looked" not in pages[0]


def test_several_models_stand_against_one(resight: Command) -> None:
    resight("calibrate", "--split", "s", *BOTH, "--json")
    document = resight("evaluate", "--split", "s", *BOTH, "--against", "v1", "--json")
    alone = resight("evaluate", "--split", "s", "--model", "v1", "--json")
    for one, old, new in zip(document["against"]["species"], alone["species"], document["species"], strict=True):
        assert (one["top1_old"], one["top1_new"]) == (old["top1"], new["top1"])


def test_a_model_trained_anew_wants_a_new_calibration(resight: Command, project: Path) -> None:
    resight("calibrate", "--split", "s", *BOTH, "--json")
    make_run(project, "v2", 3, 96, split="other", split_seed=0, set_aside_used=False, classes=[])
    complaint = match(resight, project, *BOTH, expect=2)
    assert "shares.json was made from something else: members is" in complaint
    assert "`resight calibrate --split SPLIT --model v1 --model v2`" in complaint


@pytest.mark.parametrize(
    "command", [("match", "PHOTO", "--species", SPECIES), ("evaluate", "--split", "s"), ("calibrate", "--split", "s")]
)
def test_one_model_twice_is_refused(resight: Command, project: Path, command: tuple[str, ...]) -> None:
    words = [str(project / "a photo") if word == "PHOTO" else word for word in command]
    assert "model v1 is named twice" in resight(*words, "--model", "v1", "--model", "v1", expect=2)
    folder = str(project / "runs" / "v1" / "model")
    complaint = resight(*words, "--model", "v1", "--model", folder, expect=2)
    assert "are the same model; name each model once" in complaint
