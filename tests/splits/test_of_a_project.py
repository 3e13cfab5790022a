"""A project's splits: which photos are hashed, and what is frozen of all of it."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from resight.catalogue import store
from resight.errors import InputError
from resight.project import Project, catalogued

from ..catalogue.projects import do_import, write_rows


def photo(seed: int, **settings: int) -> bytes:
    picture = Image.fromarray(np.random.default_rng(seed).integers(0, 256, (6, 8, 3), dtype=np.uint8))
    buffer = io.BytesIO()
    picture.resize((160, 120), Image.Resampling.BICUBIC).save(buffer, "JPEG", quality=settings.get("quality", 95))
    return buffer.getvalue()


@pytest.fixture
def project(tmp_path: Path) -> Project:
    """Six zebras in five encounters each; z0's first photo is there again, compressed more, in all its encounters."""
    rows, folder = [], tmp_path / "herd"
    folder.mkdir()
    for who in range(6):
        for when in range(5):
            name = f"{who}-{when}.jpg"
            content = photo(0, quality=95 - 10 * when) if who == 0 else photo(100 * who + when)
            (folder / name).write_bytes(content)
            rows.append({"path": name, "individual": f"z{who}", "species": "zebra", "encounter": f"{who}-{when}",
                         "date": f"2024-05-{when + 1:02}", "x": 10, "y": 10, "w": 140, "h": 100})  # fmt: skip
    made = Project.init(tmp_path / "project")
    do_import(made, write_rows(folder / "herd.csv", rows))
    return made


def frozen(project: Project, name: str) -> store.StoredSplit:
    with project.database.reading() as connection:
        return store.load_split(connection, name)


def test_near_duplicates_are_looked_for_and_frozen_with_the_split(project: Project, tmp_path: Path) -> None:
    (tmp_path / "herd" / "3-3.jpg").unlink()
    split = project.split("a")
    (warning,) = [w for w in split.warnings if "almost the same picture" in w]
    assert warning.startswith(
        "zebra: 5 photos of 1 individuals are almost the same picture as one of another encounter"
    )
    found = split.near_duplicates
    assert found is not None
    assert (found.n_pairs, found.compared, found.not_read) == (10, 29, 1)
    assert {pair.individual for pair in found.pairs} == {"z0"}
    stored = frozen(project, "a").report["near_duplicates"]
    assert (stored["n_pairs"], len(stored["pairs"]), stored["species"][0]["photos"]) == (10, 10, 5)


def test_nobody_looks_unless_wanted_or_cheap(project: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    assert project.split("no", check_duplicates=False).near_duplicates is None
    monkeypatch.setattr(catalogued, "CHECKED_UNASKED", 29)
    too_many = project.split("many")
    assert too_many.near_duplicates is None
    assert too_many.warnings[-1].startswith(
        "nobody looked whether photos of different encounters are almost the same: 30"
    )
    assert project.split("asked", check_duplicates=True).near_duplicates is not None
    monkeypatch.setattr(catalogued, "CHECKED_UNASKED", 30)
    assert project.split("few").near_duplicates is not None


def test_every_protocol_is_frozen(project: Project, tmp_path: Path) -> None:
    disjoint = project.split("disjoint", protocol="disjoint", seed=2)
    by_time = project.split("time", protocol="time", date="2024-05-04")
    assert disjoint.species[0].test_individuals_seen == 0
    assert by_time.species[0].test_individuals_seen == by_time.species[0].test_individuals == 6
    assert frozen(project, "time").report["species"][0]["date"] == "2024-05-04"
    project.export("csv", tmp_path / "disjoint.csv", split="disjoint")
    again = project.split("again", from_file=tmp_path / "disjoint.csv", seed=5)
    assert again.members == disjoint.members
    assert [(s["name"], s["protocol"], s["seed"]) for s in project.splits()] == [
        ("disjoint", "disjoint", 2), ("time", "time", 0), ("again", "imported", 5),
    ]  # fmt: skip
    assert frozen(project, "again").subset == frozen(project, "disjoint").subset


def test_a_wrong_request_freezes_nothing(project: Project, tmp_path: Path) -> None:
    table = tmp_path / "bad.csv"
    table.write_text("annotation_id,subset\nnobody,train\n", encoding="utf-8")
    with pytest.raises(InputError, match="not in the catalogue"):
        project.split("a", from_file=table)
    for options in ({"protocol": "time"}, {"date": "2024-05-04"}, {"train_fraction": 0.5}):
        with pytest.raises(InputError, match="leave protocol, train fraction and date out"):
            project.split("a", from_file=table, **options)  # type: ignore[arg-type]
    with pytest.raises(InputError, match="expected a day that exists"):
        project.split("a", protocol="time", date="yesterday")
    assert project.splits() == []
