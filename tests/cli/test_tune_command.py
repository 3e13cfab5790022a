"""``resight tune`` as a user meets it: a small made-up catalogue, with a trainer that is quick or real."""

from __future__ import annotations

import csv
import json
import re
from pathlib import Path

import pytest

from resight.catalogue import store
from resight.cli import run
from resight.project import Project
from resight.training import loop, study
from resight.training.checkpoint import EpochReport
from resight.training.loop import Job

from ..catalogue.projects import two_species
from .conftest import Command

QUICK = ("--backbone", "test_efficientnet", "--weights", "none", "--set", "image_size=32", "--set", "epochs=1")


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    table = two_species(tmp_path_factory.mktemp("drawn"), animals=12)
    folder = tmp_path_factory.mktemp("projects") / "demo"
    assert run(["init", str(folder)]) == 0
    assert run(["--project", str(folder), "import", str(table)]) == 0
    for name, seed in (("s", "1"), ("t", "2")):
        assert run(["--project", str(folder), "split", name, "--seed", seed]) == 0
    return folder


@pytest.fixture
def jobs(monkeypatch: pytest.MonkeyPatch) -> list[Job]:
    """What the trials were given; nothing is trained."""
    seen: list[Job] = []

    def train(job: Job) -> None:
        seen.append(job)
        assert job.on_epoch is not None
        job.on_epoch(EpochReport(1, 1, 1.0, 0.0, 0.1, 0.1, 1, 1.0, 1.0, 0.0, 1.0, 10.0 * len(seen)))

    monkeypatch.setattr(study, "train", train)
    return seen


def subsets(project: Path, split: str) -> dict[str, str]:
    opened = Project(project)
    with opened.database.reading() as connection:
        return dict(store.load_split(connection, split).subset)


def test_tune_with_real_training_and_the_recipe_that_it_finds(resight: Command, project: Path) -> None:
    words = ("tune", "--split", "s", "--trials", "2", "--name", "better", "--species", "lion", *QUICK)
    document = resight(*words, "--json")
    assert Path(document["path"]) == project / "tuning" / "better" / "best.toml"
    assert Path(document["path"]).is_file()
    assert document["leaks"] is None
    assert [one["state"] for one in document["trials"]] == ["complete", "complete"]
    best = document["best"]
    assert best["value"] == max(one["value"] for one in document["trials"])
    assert best["settings"] == document["trials"][best["trial"]]["settings"]
    config = json.loads((project / "tuning" / "better" / "trials" / "0000" / "config.json").read_text(encoding="utf-8"))
    assert (config["split"], config["tuned_for"], config["recipe"]["validation_share"]) == ("s", "s", 0.25)

    resight("train", "with-it", "--split", "s", "--recipe", "better", "--species", "lion")
    recipe = json.loads((project / "runs" / "with-it" / "config.json").read_text(encoding="utf-8"))["recipe"]
    assert recipe["name"] == "better"
    assert recipe["validation_share"] is None
    assert recipe["learning_rate"] == best["settings"]["learning_rate"]
    assert (recipe["backbone"], recipe["weights"], recipe["epochs"]) == ("test_efficientnet", "none", 1)

    text = resight(*words)
    assert "2 trials (2 complete)" in text
    assert "resight train RUN --split s --recipe better" in text
    assert loop.train is study.train


def test_trials_see_the_training_side_only(resight: Command, project: Path, jobs: list[Job]) -> None:
    document = resight("tune", "--split", "s", "--trials", "3", *QUICK, "--set", "scale=20", "--json")
    assert document["name"] == "s-tiny"
    assert document["best"]["value"] == 30.0
    assert document["as_it_is"] == 10.0
    assert "scale" not in document["searched"]
    subset = subsets(project, "s")
    assert len(jobs) == 3
    for job in jobs:
        assert job.recipe.scale == 20.0
        trained = {one.annotation_id for one in job.samples}
        scored = {one.annotation_id for one in job.held_out}
        assert trained
        assert scored
        assert not trained & scored
        assert {subset[one] for one in trained | scored} == {"train"}
        encounters = {one.encounter for one in job.samples} & {one.encounter for one in job.held_out}
        assert not encounters
    assert {tuple(job.held_out) for job in jobs} == {tuple(jobs[0].held_out)}
    with (project / "tuning" / "s-tiny" / "trials.csv").open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    assert [row["value"] for row in rows] == ["10.0", "20.0", "30.0"]
    assert "scale" not in rows[0]


def test_on_another_split_it_says_what_it_leaks(resight: Command, project: Path, jobs: list[Job]) -> None:
    words = ("tune", "--split", "s", "--validate-on", "t", "--trials", "1", "--name", "paper-way", *QUICK)
    leaks = resight(*words, "--json")["leaks"]
    ours, theirs = subsets(project, "s"), subsets(project, "t")
    [job] = jobs
    assert {one.annotation_id for one in job.samples} == {key for key, side in theirs.items() if side == "train"}
    assert {one.annotation_id for one in job.held_out} == {key for key, side in theirs.items() if side == "test"}
    assert job.recipe.validation_share is None
    test = [key for key, side in ours.items() if side == "test"]
    trained = sum(theirs.get(key) == "train" for key in test)
    scored = sum(theirs.get(key) == "test" for key in test)
    assert 0 < trained < len(test)
    assert 0 < scored < len(test)
    assert f"trains on {trained} and scores {scored} of the {len(test)} test annotations of split 's'" in leaks
    known, all_of_them = map(int, re.findall(r"holds (\d+) of their (\d+) identities", leaks)[0])
    assert 0 < known <= all_of_them
    folder = project / "tuning" / "paper-way"
    assert leaks in (folder / "best.toml").read_text(encoding="utf-8")
    assert json.loads((folder / "passport.json").read_text(encoding="utf-8"))["recorded"]["leaks"] == leaks
    assert f"leaks: {leaks}\n" in resight(*words)
    line = resight("tune", "--split", "t", "--trials", "1", "--name", "paper-way", *QUICK, expect=2)
    assert "tuned_for is 's' there and 't' now" in line


@pytest.mark.parametrize(
    ("words", "named"),
    [
        (("--split", "nope", "--trials", "1"), "nope"),
        (("--split", "s"), "--trials"),
        (("--split", "s", "--trials", "0"), "--trials"),
        (("--split", "s", "--trials", "1", "--recipe", "bogus"), "bogus"),
        (("--split", "s", "--trials", "1", "--name", "tuned"), "'tuned' is the name of a recipe"),
        (("--split", "s", "--trials", "1", "--name", "a/b"), "a/b"),
        (("--split", "s", "--trials", "1", "--set", "epochz=3"), "epochz"),
        (("--split", "s", "--trials", "1", "--set", "validation_share=none", "--validate-on", "s"), "the split itself"),
        (("--split", "s", "--trials", "1", "--validate-on", "nope"), "nope"),
        (("--split", "s", "--trials", "1", "--species", "unicorn"), "unicorn"),
        (("--split", "s", "--trials", "1", "--recipe", "finetune"), "--init"),
    ],
)
def test_wrong_input_is_one_line(
    resight: Command, project: Path, jobs: list[Job], words: tuple[str, ...], named: str
) -> None:
    assert named in resight("tune", *words, expect=2)
    assert not jobs
