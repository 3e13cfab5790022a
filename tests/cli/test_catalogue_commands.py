from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from resight.cli import run

from ..catalogue.projects import herd, make_older, row, write_rows


@dataclass(frozen=True)
class Said:
    """What a command said and how it ended."""

    code: int
    out: str
    err: str

    @property
    def document(self) -> Any:
        """The one JSON document on standard output."""
        return json.loads(self.out)

    @property
    def line(self) -> str:
        """The one line on standard error."""
        assert self.err.startswith("resight: ")
        assert self.err.count("\n") == 1
        return self.err


Resight = Callable[..., Said]


@pytest.fixture
def resight(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Resight:
    """Runs commands inside a new project."""

    def call(*arguments: object) -> Said:
        code = run(["--project", str(tmp_path / "project"), *map(str, arguments)])
        return Said(code, *capsys.readouterr())

    assert call("init", tmp_path / "project").code == 0
    return call


def many(individuals: int = 8, encounters: int = 6) -> list[dict[str, Any]]:
    """Enough photos for a split: every individual in several encounters, from the left."""
    return [
        row(1, path=f"{who}-{when}.png", individual=f"z{who}", encounter=f"{who}-{when}", date="")
        for who in range(individuals)
        for when in range(encounters)
    ]


def test_init(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["init", str(tmp_path / "a" / "b"), "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == {"project": str(tmp_path / "a" / "b")}
    assert sorted(path.name for path in (tmp_path / "a" / "b").iterdir()) == ["catalogue.db", "resight.toml"]
    assert run(["init", str(tmp_path / "a" / "b")]) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert "is a project already" in err


def test_init_here(tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert run(["init"]) == 0
    capsys.readouterr()
    (tmp_path / "below").mkdir()
    monkeypatch.chdir(tmp_path / "below")
    assert run(["stats", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["species"] == []


def test_import(resight: Resight, tmp_path: Path) -> None:
    path = herd(tmp_path / "herd", [row(n, viewpoint="teeth" if n == 2 else "left") for n in range(4)])
    said = resight("import", path, "--json")
    assert (said.code, said.err) == (0, "")
    found = said.document
    assert {
        name: found[name]
        for name in (
            "images", "annotations", "individuals", "encounters", "species", "added", "unchanged", "updated", "absent",
            "problems", "dry_run", "refused", "policies", "unmapped_viewpoints",
        )
    } == {
        "images": 4, "annotations": 4, "individuals": 4, "encounters": 4, "species": 1, "added": 4, "unchanged": 0,
        "updated": 0, "absent": 0, "problems": [], "dry_run": False, "refused": False,
        "policies": {"zebra": "separate"}, "unmapped_viewpoints": {"teeth": 1},
    }  # fmt: skip
    again = resight("import", path, "--json").document
    assert (again["added"], again["unchanged"], again["changes"]) == (0, 4, [])


def test_import_for_a_person(resight: Resight, tmp_path: Path) -> None:
    path = herd(tmp_path / "herd", [row(n, viewpoint="teeth" if n == 2 else "left", date="") for n in range(4)])
    trial = resight("import", path, "--dry-run")
    assert "4 would be added, 0 updated, 0 unchanged; dry run, nothing was changed" in trial.out
    said = resight("import", path)
    assert (said.code, said.err) == (0, "")
    for words in (
        "table, for", "'teeth' (1)", "zebra: viewpoint policy separate",
        "4 annotations have neither an encounter nor a date",
        "herd: 4 annotations of 4 individuals in 4 encounters, 4 images, 1 species", "4 added, 0 updated, 0 unchanged",
    ):  # fmt: skip
        assert words in said.out
    write_rows(path, [row(0, individual="Ayo", date="")])
    said = resight("import", path)
    assert "individual: 'z0' -> 'Ayo'" in said.out
    assert "0 added, 1 updated, 0 unchanged, 3 in the catalogue that the file no longer has (kept)" in said.out


def test_a_refused_import_gives_one_document_and_one_line(resight: Resight, tmp_path: Path) -> None:
    path = write_rows(tmp_path / "herd" / "herd.csv", [row(n) for n in range(30)])
    said = resight("import", path, "--json")
    assert said.code == 2
    assert len(said.document["problems"]) == 30
    assert said.document["refused"] is True
    assert said.document["added"] == 0
    assert set(said.document["problems"][0]) == {"row", "field", "value", "problem", "severity"}
    assert said.document["problems"][0]["row"] == "2"
    assert "30 rows cannot be imported, so nothing was" in said.line
    assert resight("stats", "--json").document["totals"]["annotations"] == 0


def test_a_refused_import_for_a_person_lists_the_problems_and_where_the_rest_is(
    resight: Resight, tmp_path: Path
) -> None:
    path = write_rows(tmp_path / "herd" / "herd.csv", [row(n) for n in range(30)])
    for options, code in (([], 2), (["--skip-bad"], 2), (["--dry-run"], 2)):
        said = resight("import", path, *options)
        assert said.code == code
        lines = said.out.splitlines()
        assert lines[0].startswith("2: file_name '0.png': no such file in ")
        assert lines[0].endswith("(refused)")
        assert lines[20] == "and 10 more problems"
        report = tmp_path / "project" / "reports" / "import-herd-problems.csv"
        assert lines[21] == f"all problems are listed in {report}"
        assert len(report.read_text(encoding="utf-8").splitlines()) == 31
        assert str(report) in said.line


def test_what_was_left_out_is_listed(resight: Resight, tmp_path: Path) -> None:
    path = herd(tmp_path / "herd", [row(n) for n in range(4)])
    (tmp_path / "herd" / "1.png").unlink()
    (tmp_path / "herd" / "2.png").write_text("no picture")
    said = resight("import", path, "--skip-bad")
    assert said.code == 0
    assert "3: file_name '1.png': no such file" in said.out
    assert "4: image '2.png': not a picture in a format that can be read (quarantined)" in said.out
    assert "3 added, 0 updated, 0 unchanged, 1 left out, 1 pictures quarantined" in said.out


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["nowhere.csv"], "nowhere.csv: no such file or folder"),
        (["herd/herd.csv", "--format", "photos"], "not a folder; expected a folder of photos"),
        (["herd/herd.csv", "--format", "megadetector"], "herd.csv: no JSON"),
        (["herd/herd.csv", "--format", "cvs"], "did you mean 'csv'"),
        (["herd/herd.csv", "--images", "nowhere"], "--images"),
        (["herd/herd.csv", "--species", ""], "--species"),
        (["herd/herd.csv", "--source", " "], "--source"),
    ],
)
def test_an_import_that_cannot_begin_gives_one_line(
    resight: Resight, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, arguments: list[str], words: str
) -> None:
    herd(tmp_path / "herd", [row(0)])
    monkeypatch.chdir(tmp_path)
    said = resight("import", *arguments, "--json")
    assert (said.code, said.out) == (2, "")
    assert words in said.line


def test_stats(resight: Resight, tmp_path: Path) -> None:
    assert "the catalogue is empty" in resight("stats").out
    rows = [
        row(0),
        row(1, individual="z0", viewpoint="right"),
        row(2, species="lion+head", viewpoint="", individual=""),
    ]
    resight("import", herd(tmp_path / "herd", rows))
    found = resight("stats", "--json").document
    assert found["totals"] == {
        "species": 2, "sources": 1, "images": 3, "annotations": 3, "individuals": 1, "identities": 2, "encounters": 3,
        "unnamed": 0,
    }  # fmt: skip
    lion, zebra = found["species"]
    assert {name: zebra[name] for name in (
        "species", "sources", "annotations", "individuals", "identities", "encounters", "viewpoints",
        "mean_per_individual", "median_per_individual",
    )} == {
        "species": "zebra", "sources": ["herd"], "annotations": 2, "individuals": 1, "identities": 2, "encounters": 2,
        "viewpoints": {"left": 1, "right": 1}, "mean_per_individual": 2, "median_per_individual": 2,
    }  # fmt: skip
    assert (lion["species"], lion["mean_per_individual"]) == ("lion+head", None)
    assert found["tail"]["species_below_250"] == 2
    shown = resight("stats").out
    for words in ("lion+head", "zebra", "left 1 (1 ids), right 1 (1 ids)", "than 250: 2", "no individual"):
        assert words in shown


def test_split_and_export(resight: Resight, tmp_path: Path) -> None:
    resight("import", herd(tmp_path / "herd", many()))
    said = resight("split", "first", "--seed", 3, "--json")
    assert (said.code, said.err) == (0, "")
    found = said.document
    assert (found["name"], found["seed"], found["protocol"]) == ("first", 3, "paper")
    (zebra,) = found["species"]
    assert set(zebra) >= {
        "species", "train_annotations", "train_individuals", "test_annotations", "test_individuals",
        "test_individuals_seen",
    }  # fmt: skip
    assert zebra["train_annotations"] > 0
    assert zebra["test_annotations"] > 0
    (listed,) = resight("split", "--list", "--json").document["splits"]
    assert (listed["name"], listed["seed"], listed["catalogue_revision"]) == ("first", 3, 2)
    assert "first" in resight("split", "--list").out

    out = tmp_path / "out.csv"
    done = resight("export", "csv", out, "--split", "first", "--json")
    assert done.document == {"format": "csv", "path": str(out), "rows": 48}
    lines = out.read_text(encoding="utf-8").splitlines()
    assert lines[0].endswith(",theta,subset")
    subsets = [line.rsplit(",", 1)[1] for line in lines[1:]]
    assert subsets.count("train") == zebra["train_annotations"]
    assert subsets.count("test") == zebra["test_annotations"]

    assert "'first' is frozen already" in resight("split", "first").line
    assert resight("split", "second", "--seed", 3).code == 0
    for name in ("out", "again"):
        resight("export", "csv", tmp_path / f"{name}.csv", "--split", {"out": "first", "again": "second"}[name])
    assert out.read_bytes() == (tmp_path / "again.csv").read_bytes()


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["split"], "wants a NAME"),
        (["split", "a", "--protocol", "time", "--date", "x"], "expected a day that exists"),
        (["split", "a", "--date", "2024-05-01"], "--protocol time"),
        (["split", "a", "--protocol", "papre"], "did you mean 'paper'"),
        (["split", "a", "--train-fraction", "half"], "expected auto or a number between 0 and 1"),
        (["split", "a", "--train-fraction", "1.5"], "1.5"),
        (["split", "a", "--train-fraction", "nan"], "nan"),
        (["split", "a"], "of 0 annotations none can be divided"),
        (["export", "coco", "x.json"], "export coco is not built yet"),
        (["export", "cvs", "x.csv"], "did you mean 'csv'"),
        (["export", "csv", "x.csv", "--split", "none"], "no split named 'none'"),
        (["export", "csv", "/proc/none/x.csv"], "cannot be written"),
        (["export", "csv", "/"], "cannot be written"),
    ],
)
def test_splits_and_exports_that_cannot_be_made_give_one_line(
    resight: Resight, arguments: list[str], words: str
) -> None:
    said = resight(*arguments, "--json")
    assert (said.code, said.out) == (2, "")
    assert words in said.line
    assert resight("split", "--list", "--json").document == {"splits": []}


def test_migrate(resight: Resight, tmp_path: Path) -> None:
    resight("import", herd(tmp_path / "herd", [row(0)]))
    assert resight("migrate", "--json").document == {"migrated": False, "backup": None}
    make_older(tmp_path / "project" / "catalogue.db", "0001")
    for command in (["stats"], ["import", tmp_path / "herd" / "herd.csv"], ["split", "a"]):
        said = resight(*command)
        assert said.code == 2
        assert "run: resight migrate" in said.line
    said = resight("migrate", "--json")
    assert (said.code, said.document["migrated"]) == (0, True)
    assert Path(said.document["backup"]).is_file()
    assert resight("stats", "--json").document["totals"]["annotations"] == 1
    assert "up to date" in resight("migrate").out


def test_a_catalogue_that_is_gone_or_broken_gives_one_line(resight: Resight, tmp_path: Path) -> None:
    file = tmp_path / "project" / "catalogue.db"
    file.write_bytes(b"no database, not at all " * 50)
    said = resight("stats", "--json")
    assert (said.code, said.out) == (2, "")
    assert "is no catalogue that can be read" in said.line
    file.unlink()
    assert "holds no resight catalogue" in resight("stats").line


def test_a_setting_that_cannot_be_used_gives_one_line(resight: Resight, tmp_path: Path) -> None:
    file = tmp_path / "project" / "resight.toml"
    file.write_text('[viewpoints.policy]\nzebra = "both"\n', encoding="utf-8")
    said = resight("stats", "--json")
    assert (said.code, said.out) == (2, "")
    assert "viewpoints.policy.zebra is 'both'" in said.line


def test_the_program_itself(resight: Resight, tmp_path: Path) -> None:
    """The installed program: what stands on standard output and standard error, and the exit code."""
    path = herd(tmp_path / "herd", [row(0), row(1, path="absent.png")])
    (tmp_path / "herd" / "absent.png").unlink()
    program = [sys.executable, "-c", "from resight.cli import main; main()"]
    done = subprocess.run(
        [*program, "--project", str(tmp_path / "project"), "import", str(path), "--json"],
        capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    assert done.returncode == 2
    assert [problem["row"] for problem in json.loads(done.stdout)["problems"]] == ["3"]
    assert done.stderr.count("\n") == 1
    assert done.stderr.startswith(f"resight: {path}: 1 row cannot be imported")
