"""The documentation tells the truth: the reference is current, and the tutorial's commands run."""

from __future__ import annotations

import importlib.util
import json
import os
import re
import shlex
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import tomlkit

from resight import settings
from resight.cli import run
from resight.demo import population
from resight.demo.population import draw_population

ROOT = Path(__file__).parents[1]
QUICK = ["--set", "epochs=1", "--set", "image_size=64"]


def _reference_maker() -> ModuleType:
    specification = importlib.util.spec_from_file_location("make_reference", ROOT / "docs" / "make_reference.py")
    assert specification is not None
    assert specification.loader is not None
    module = importlib.util.module_from_spec(specification)
    specification.loader.exec_module(module)
    return module


def test_the_command_line_reference_is_current(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "100")
    monkeypatch.setenv("TERMINAL_WIDTH", "100")
    written = (ROOT / "docs" / "cli.md").read_text(encoding="utf-8")
    assert written == _reference_maker().reference(), "run `make docs`"
    assert (ROOT / "docs" / "formats.md").read_text(encoding="utf-8") == _reference_maker().formats()


def _console_lines(text: str) -> list[str]:
    blocks = re.findall(r"```console\n(.*?)```", text, re.S)
    return [line.removeprefix("$ ") for block in blocks for line in block.splitlines()]


def _run_tutorial(name: str, capsys: pytest.CaptureFixture[str], *, individuals: int = 8, encounters: int = 4) -> None:
    """Run the commands of a tutorial in the working directory, on smaller populations."""
    lines = _console_lines((ROOT / "docs" / "tutorials" / name).read_text(encoding="utf-8"))
    assert sum(line.startswith("resight ") for line in lines) >= 12
    for line in lines:
        words = shlex.split(line)
        if words[0] == "python":
            for seed, folder in enumerate(re.findall(r"Path\('(\w+)'\)", line)):
                draw_population(
                    Path(folder), seed=seed, individuals=individuals, encounters=encounters, photos_per_encounter=1
                )
        elif words[0] == "cd":
            os.chdir(words[1])
        else:
            assert words[0] == "resight"
            more = QUICK if words[1] == "train" else []
            assert run([*words[1:], *more]) == 0, (line, capsys.readouterr().err)


def test_every_command_of_the_first_tutorial_runs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    _run_tutorial("first-project.md", capsys)
    assert (tmp_path / "my-project" / "sheet.html").read_text(encoding="utf-8").count("<figure>") == 20
    assert (tmp_path / "my-project" / "candidates.csv").is_file()


def test_links_of_the_documentation_lead_somewhere() -> None:
    for file in [ROOT / "README.md", *(ROOT / "docs").rglob("*.md")]:
        for target in re.findall(r"\]\((?!https?:)([^)#]+)", file.read_text(encoding="utf-8")):
            assert (file.parent / target).exists(), f"{file.name} links to {target}"


def test_every_command_from_a_memory_card_runs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    _run_tutorial("from-a-memory-card.md", capsys)
    capsys.readouterr()
    assert run(["status", "--json"]) == 0
    steps = {step["name"]: step for step in json.loads(capsys.readouterr().out)["steps"]}
    assert steps["photos"]["count"] == steps["detected"]["count"] == 128
    assert steps["viewpoint"]["count"] > 100
    assert steps["embedded"]["count"] == steps["viewpoint"]["count"]


def _settings_of(name: str) -> dict[str, Any]:
    """What a tutorial has its reader write into ``resight.toml``, all of it together."""
    text = (ROOT / "docs" / "tutorials" / name).read_text(encoding="utf-8")
    return tomlkit.parse("\n".join(re.findall(r"```toml\n(.*?)```", text, re.S))).unwrap()


def test_every_command_for_answers_you_can_trust_runs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    name = "answers-you-can-trust.md"
    template = tomlkit.parse(settings.TEMPLATE)
    # A light extractor for the animals of the test; the tutorial's other settings are as it has them.
    template["local"] = _settings_of(name)["local"] | {"extractor": "xfeat", "points": 64, "foreground": "box"}
    monkeypatch.setattr(settings, "TEMPLATE", tomlkit.dumps(template))
    monkeypatch.setattr(population, "SPECIES", population.SPECIES[:1])
    monkeypatch.chdir(tmp_path)
    _run_tutorial(name, capsys, individuals=20, encounters=3)
    said = " ".join(capsys.readouterr().out.split())
    assert said.count("held-out identities") == 3
    assert "P(new) expects 40% of animals to be new, as told" in said
    assert "compared with 120 of 120 (60 other side included)" in said
    assert "imagenet-lite1 counts" in said
    sheet = (tmp_path / "my-coats" / "sheet.html").read_text(encoding="utf-8")
    assert 'class="lines"' in sheet
    assert "P(same), the probability" in sheet
