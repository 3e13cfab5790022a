from __future__ import annotations

import csv
import json
import shutil
from pathlib import Path
from typing import Any

import pytest
from PIL import ExifTags, Image

from resight.catalogue import intake
from resight.errors import ImportRefused, InputError, ResightError, UnknownName
from resight.images import ImageFacts, inspect
from resight.project import Project
from resight.settings import add_image_root
from resight.types import Problem

from .projects import (
    HEIGHT,
    WIDTH,
    annotations,
    contents,
    do_import,
    draw_photo,
    herd,
    ledger,
    row,
    write_rows,
)

ROWS = [row(n) for n in range(4)]


@pytest.fixture
def project(tmp_path: Path) -> Project:
    return Project.init(tmp_path / "project")


def state_of(project: Project) -> tuple[Any, bytes, bytes]:
    """The rows of the catalogue, its file and the settings, byte for byte."""
    rows = contents(project)
    return rows, project.database.file.read_bytes(), project.settings.file.read_bytes()


def listed(report: intake.ImportReport) -> list[tuple[str, str, str]]:
    return [(p.row, p.field, p.severity) for p in report.problems]


def read_report(report: intake.ImportReport) -> list[Problem]:
    """The CSV of problems, read back."""
    assert report.problems_file is not None
    with Path(report.problems_file).open(encoding="utf-8", newline="") as stream:
        return [Problem(**entry) for entry in csv.DictReader(stream)]  # type: ignore[arg-type]


def bad_rows(folder: Path) -> tuple[Path, dict[str, str]]:
    """Two good rows and everything that can be wrong with one, in one file; gives line -> what is wrong."""
    herd(folder, ROWS[:2])
    draw_photo(folder / "whole.jpg")
    content = Image.effect_noise((200, 200), 60)
    content.save(folder / "cut.jpg")
    (folder / "cut.jpg").write_bytes((folder / "cut.jpg").read_bytes()[:2000])
    (folder / "text.jpg").write_text("this is no picture")
    (folder / "empty.jpg").write_bytes(b"")
    Image.new("L", (50_000, 1)).save(folder / "huge.png")
    rows = [
        (row(0, id="a"), None),
        (row(1, id="b"), None),
        (row(2, id="c", path="absent.png"), "no such file"),
        (row(3, id="d", path="cut.jpg"), "cannot be decoded"),
        (row(4, id="e", path="text.jpg"), "not a picture"),
        (row(5, id="f", path="empty.jpg"), "0 bytes"),
        (row(6, id="g", path="huge.png"), "50000 x 1 pixels is over the limit"),
        (row(7, id="h", path="whole.jpg", x=100), "0% of the box lies inside"),
        (row(8, id="i", path="whole.jpg", w=0), "zero-area box"),
        (row(9, id="a", path="whole.jpg"), "2 has it already"),
        (row(10, id="k", path=""), "no file name"),
        (row(11, id="l", path="whole.jpg", individual="Fran\udce7ois"), "not UTF-8"),
        (row(12, id="m", path="../whole.jpg"), "climbs out of the"),
        (row(13, id="n", path="whole.jpg", date="2024-02-30"), "no such date"),
        (row(14, id="o", path="whole.jpg", latitude=91, longitude=5), "latitude 91 is not between"),
        (row(15, id="p", path="whole.jpg", species=""), "names no species"),
    ]
    full = [{"latitude": "", "longitude": ""} | entry for entry, _ in rows]
    columns = list(dict.fromkeys(name for entry in full for name in entry))
    table = [{name: entry[name] for name in columns} for entry in full]
    (folder / "herd.csv").unlink()
    path = folder / "herd.csv"
    with path.open("w", newline="", encoding="utf-8", errors="surrogateescape") as stream:
        writer = csv.DictWriter(stream, columns)
        writer.writeheader()
        writer.writerows(table)
    return path, {str(number): text for number, (_, text) in enumerate(rows, start=2) if text is not None}


# Bad rows


def test_everything_bad_in_one_file_is_refused_whole_with_one_clear_line_each(project: Project, tmp_path: Path) -> None:
    do_import(project, herd(tmp_path / "before", ROWS, "before.csv"))
    before = state_of(project)
    path, wrong = bad_rows(tmp_path / "herd")
    with pytest.raises(ImportRefused) as refusal:
        do_import(project, path)
    report = refusal.value.report
    assert report.refused
    assert sorted(p.row for p in report.problems) == sorted(wrong)
    for problem in report.problems:
        assert wrong[problem.row] in problem.problem
        assert all("\n" not in text for text in (problem.problem, problem.value, problem.field))
    assert sorted(p.row for p in report.problems if p.severity == "quarantined") == [*"5678"]
    assert (report.skipped, report.quarantined, report.annotations) == (len(wrong) - 4, 4, 6)
    assert state_of(project) == before
    assert read_report(report) == list(report.problems)
    message = str(refusal.value)
    assert "\n" not in message
    assert "10 rows cannot be imported, so nothing was" in message
    assert str(report.problems_file) in message


def test_bad_rows_are_left_out_when_that_is_asked_for(project: Project, tmp_path: Path) -> None:
    path, wrong = bad_rows(tmp_path / "herd")
    report = do_import(project, path, skip_bad=True)
    assert (report.added, report.annotations, report.skipped, report.quarantined) == (6, 6, 10, 4)
    assert not report.refused
    assert sorted(p.row for p in report.problems) == sorted(wrong)
    assert read_report(report) == list(report.problems)
    assert [(a.file_name, a.image_status) for a in annotations(project)] == [
        ("0.png", "ok"), ("1.png", "ok"), ("cut.jpg", "quarantined"), ("empty.jpg", "quarantined"),
        ("huge.png", "quarantined"), ("text.jpg", "quarantined"),
    ]  # fmt: skip
    assert do_import(project, path, skip_bad=True).unchanged == 6


def test_a_first_import_that_is_refused_leaves_an_empty_project(project: Project, tmp_path: Path) -> None:
    before = state_of(project)
    path = write_rows(tmp_path / "herd" / "herd.csv", ROWS)
    with pytest.raises(ImportRefused, match="4 rows cannot be imported"):
        do_import(project, path)
    assert state_of(project) == before
    assert before[0]["annotations"] == []


def test_a_file_of_bad_rows_only_is_refused_with_its_report_even_when_they_may_be_left_out(
    project: Project, tmp_path: Path
) -> None:
    before = state_of(project)
    path = write_rows(tmp_path / "herd" / "herd.csv", ROWS)
    with pytest.raises(ImportRefused, match="no usable row is left") as refusal:
        do_import(project, path, skip_bad=True)
    assert len(refusal.value.report.problems) == 4
    assert state_of(project) == before


def test_the_report_goes_when_the_file_is_mended(project: Project, tmp_path: Path) -> None:
    path = herd(tmp_path / "herd", ROWS)
    (tmp_path / "herd" / "2.png").unlink()
    with pytest.raises(ImportRefused) as refusal:
        do_import(project, path)
    problems_file = Path(str(refusal.value.report.problems_file))
    assert problems_file == project.folder / "reports" / "import-herd-problems.csv"
    draw_photo(tmp_path / "herd" / "2.png")
    report = do_import(project, path)
    assert (report.problems, report.problems_file, report.added) == ((), None, 4)
    assert not problems_file.exists()


def test_undecodable_pictures_let_their_rows_in(project: Project, tmp_path: Path) -> None:
    path = herd(tmp_path / "herd", ROWS)
    (tmp_path / "herd" / "2.png").write_bytes(b"")
    report = do_import(project, path)
    assert (report.added, report.quarantined, report.skipped, report.refused) == (4, 1, 0, False)
    assert listed(report) == [("4", "image", "quarantined")]
    assert report.problems[0].problem == "the file is empty (0 bytes)"
    assert project.stats().species[0].quarantined == 1
    draw_photo(tmp_path / "herd" / "2.png")
    again = do_import(project, path)
    assert (again.quarantined, again.problems, again.unchanged) == (0, (), 4)


@pytest.mark.parametrize(
    ("box", "inside"),
    [
        ((0, 0, WIDTH, HEIGHT), True),
        ((-10, -5, 50, 30), True),  # 40 of 50 times 25 of 30
        ((-20, 0, 40, 40), True),  # exactly half
        ((-21, 0, 40, 40), False),
        ((WIDTH, 0, 10, 10), False),
        ((0, -10, 10, 10), False),
        ((0, 0, 1000, 1000), False),  # a box of another image size
    ],
)
def test_a_box_has_to_lie_inside_for_half(project: Project, tmp_path: Path, box: tuple[int, ...], inside: bool) -> None:
    path = herd(tmp_path / "herd", [row(0, **dict(zip("xywh", box, strict=True)))])
    if inside:
        assert do_import(project, path).added == 1
    else:
        with pytest.raises(ImportRefused) as refusal:
            do_import(project, path)
        assert listed(refusal.value.report) == [("2", "bbox", "refused")]
        assert f"{WIDTH} x {HEIGHT}" in refusal.value.report.problems[0].problem


def test_rows_that_the_catalogue_could_not_tell_apart_are_refused(project: Project, tmp_path: Path) -> None:
    # The two boxes differ by less than what is kept of a place.
    rows = [row(0, x=1.0), row(1, path="0.png", x=1.0 + 1e-10, date="2024-05-01")]
    with pytest.raises(ImportRefused) as refusal:
        do_import(project, herd(tmp_path / "herd", rows))
    (problem,) = refusal.value.report.problems
    assert (problem.row, problem.field) == ("3", "file")
    assert problem.problem.startswith("2 is the same annotation")


# Dry runs


def test_a_dry_run_says_what_would_happen_and_changes_nothing(project: Project, tmp_path: Path) -> None:
    path = herd(tmp_path / "herd", [*ROWS, row(4, viewpoint="teeth")])
    before = state_of(project)
    trial = do_import(project, path, dry_run=True)
    assert state_of(project) == before
    assert trial.dry_run
    assert (trial.added, trial.annotations, trial.images, trial.individuals, trial.encounters) == (5, 5, 5, 5, 5)
    assert (trial.policies, trial.unmapped_viewpoints) == ({"zebra": "separate"}, {"teeth": 1})
    done = do_import(project, path)
    assert [getattr(trial, name) for name in ("added", "updated", "unchanged", "policies", "encounters")] == [
        getattr(done, name) for name in ("added", "updated", "unchanged", "policies", "encounters")
    ]
    write_rows(path, [row(0, individual="Ayo"), *ROWS[1:], row(4, viewpoint="teeth")])
    before = state_of(project)
    trial = do_import(project, path, dry_run=True)
    assert [(c.field, c.before, c.after) for c in trial.changes] == [("individual", "z0", "Ayo")]
    assert state_of(project) == before
    assert len(ledger(project)) == 5


def test_a_dry_run_shows_all_problems(project: Project, tmp_path: Path) -> None:
    path, wrong = bad_rows(tmp_path / "herd")
    before = state_of(project)
    with pytest.raises(ImportRefused) as refusal:
        do_import(project, path, dry_run=True)
    assert refusal.value.report.dry_run
    assert sorted(p.row for p in refusal.value.report.problems) == sorted(wrong)
    assert do_import(project, path, dry_run=True, skip_bad=True).added == 6
    assert state_of(project) == before


# Pictures


def test_without_verifying_no_picture_is_touched(
    project: Project, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = herd(tmp_path / "herd", [*ROWS, row(9, path="absent.jpg")])
    (tmp_path / "herd" / "0.png").write_bytes(b"")
    (tmp_path / "herd" / "absent.jpg").unlink()

    def refuse(*_: Any) -> None:
        raise AssertionError("a picture was touched")

    monkeypatch.setattr("resight.catalogue.checking.read_file", refuse)
    monkeypatch.setattr("resight.catalogue.checking.inspect", refuse)
    report = do_import(project, path, verify_images=False)
    assert (report.added, report.quarantined, report.problems) == (5, 0, ())
    assert {(a.image_status, a.content_hash, a.image_width) for a in annotations(project)} == {
        ("unverified", None, None)
    }


def test_verifying_later_fills_in_what_was_not_known(project: Project, tmp_path: Path) -> None:
    path = herd(tmp_path / "herd", ROWS)
    do_import(project, path, verify_images=False)
    report = do_import(project, path)
    assert (report.added, report.updated, report.unchanged) == (0, 0, 4)
    assert {a.image_status for a in annotations(project)} == {"ok"}
    assert len({a.content_hash for a in annotations(project)}) == 4
    again = do_import(project, path, verify_images=False)
    assert again.unchanged == 4
    assert {a.image_status for a in annotations(project)} == {"ok"}


def test_a_picture_that_is_known_is_not_decoded_again(
    project: Project, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = herd(tmp_path / "herd", ROWS)
    do_import(project, path)
    decoded = []

    def count(content: bytes, name: str) -> ImageFacts:
        decoded.append(name)
        return inspect(content, name)

    monkeypatch.setattr("resight.catalogue.checking.inspect", count)
    draw_photo(tmp_path / "herd" / "2.png", kind="another")
    assert do_import(project, path).updated == 1
    assert decoded == ["2.png"]


def test_date_and_place_are_the_source_s_else_the_picture_s(project: Project, tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[ExifTags.Base.DateTime] = "2023:07:08 09:10:11"
    rows = [row(0, path="0.jpg"), row(1, path="1.jpg", date="")]
    for entry in rows:
        draw_photo(tmp_path / "herd" / entry["path"], exif=exif)
    do_import(project, write_rows(tmp_path / "herd" / "herd.csv", rows))
    assert [a.taken_at for a in annotations(project)] == ["2024-05-01", "2023-07-08T09:10:11"]


# Names and options


def test_the_species_of_rows_that_name_none(project: Project, tmp_path: Path) -> None:
    path = herd(tmp_path / "herd", [row(0), row(1, species="")])
    do_import(project, path, species=" lion+head ")
    assert [(a.species, a.part) for a in annotations(project)] == [("zebra", None), ("lion+head", "head")]


@pytest.mark.parametrize("species", ["", " ", "unknown", "a\nb"])
def test_a_species_that_is_no_name_is_refused(project: Project, tmp_path: Path, species: str) -> None:
    with pytest.raises(InputError, match=r"--species .*: expected the name of a species"):
        do_import(project, herd(tmp_path / "herd", [row(0)]), species=species)


@pytest.mark.parametrize("source", ["", " ", "a\nb", "x" * 121])
def test_a_source_name_that_is_none_is_refused(project: Project, tmp_path: Path, source: str) -> None:
    with pytest.raises(InputError, match="expected 1 to 120 printable characters; give one with --source"):
        do_import(project, herd(tmp_path / "herd", [row(0)]), source=source)


@pytest.mark.parametrize("source", ["動" * 120, 'a "b" [c].d = \\ #', "../../etc", "."])
def test_any_printable_source_name_can_be_used(project: Project, tmp_path: Path, source: str) -> None:
    path = herd(tmp_path / "herd", [row(0), row(1)])
    (tmp_path / "herd" / "1.png").write_bytes(b"")
    report = do_import(project, path, source=source)
    assert report.source == source
    assert Path(str(report.problems_file)).parent == project.folder / "reports"
    assert project.settings.image_roots == {source: (tmp_path / "herd").resolve()}
    assert do_import(Project(project.folder), path, source=source).unchanged == 2


def test_two_datasets_get_two_roots_and_one_folder_one(project: Project, tmp_path: Path) -> None:
    for name in ("east", "west"):
        do_import(project, herd(tmp_path / name, [row(0)], f"{name}.csv"))
    do_import(project, herd(tmp_path / "west", [row(0)], "third.csv"))
    do_import(project, herd(tmp_path / "north" / "east", [row(0)], "fourth.csv"), source="east", skip_bad=True)
    assert project.settings.image_roots == {
        "east": tmp_path / "east",
        "west": tmp_path / "west",
        "east-2": tmp_path / "north" / "east",
    }


def test_a_root_that_was_named_meanwhile_is_not_taken(
    project: Project, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = herd(tmp_path / "herd", [row(0)])
    before = contents(project)
    check = intake.check_images

    def meanwhile(*arguments: Any, **options: Any) -> Any:
        add_image_root(project.settings, "herd", tmp_path)
        return check(*arguments, **options)

    monkeypatch.setattr(intake, "check_images", meanwhile)
    with pytest.raises(ResightError, match=r"image root 'herd' was set to .* nothing was changed, try again"):
        do_import(project, path)
    assert contents(project) == before
    monkeypatch.undo()
    assert do_import(Project(project.folder), path).added == 1


def test_formats(project: Project, tmp_path: Path) -> None:
    path = herd(tmp_path / "herd", [row(0)])
    with pytest.raises(UnknownName, match="did you mean 'coco'"):
        do_import(project, path, format="cocoa")
    assert do_import(project, path, format="csv").format == "csv"
    report = do_import(project, path)
    assert report.format == "csv"
    assert any("table, for" in note for note in report.notes)


def test_a_folder_of_folders(project: Project, tmp_path: Path) -> None:
    for name in ("Ayo/1.png", "Ayo/2.png", "unknown/3.png"):
        draw_photo(tmp_path / "lions" / name)
    with pytest.raises(ImportRefused, match="3 rows"):
        do_import(project, tmp_path / "lions")
    report = do_import(project, tmp_path / "lions", species="lion")
    assert (report.format, report.source, report.added, report.individuals) == ("folders", "lions", 3, 1)
    assert [(a.individual, a.box, a.encounter_known) for a in annotations(project)] == [
        ("Ayo", None, False), ("Ayo", None, False), (None, None, False),
    ]  # fmt: skip
    assert report.encounters_unknown == 3


def test_one_report_has_a_row_s_wrong_cells_and_its_missing_picture(project: Project, tmp_path: Path) -> None:
    rows = [row(0), row(1, date="yesterday", path="gone.png"), row(2, x=900, date="2024-13-01")]
    file = herd(tmp_path / "herd", rows)
    (tmp_path / "herd" / "gone.png").unlink()
    with pytest.raises(ImportRefused) as caught:
        do_import(project, file)
    found = {(problem.row, problem.field) for problem in caught.value.report.problems}
    assert found == {("3", "date"), ("3", "file_name"), ("4", "date"), ("4", "bbox")}


def test_photos_that_are_there_from_another_source_are_told(project: Project, tmp_path: Path) -> None:
    file = herd(tmp_path / "herd", [row(0), row(1)])
    assert not any("in the catalogue from source" in note for note in do_import(project, file).notes)
    assert not any("in the catalogue from source" in note for note in do_import(project, file).notes)
    again = do_import(project, file, source="herd corrected", dry_run=True)
    assert any("of the 2 photos are in the catalogue from source 'herd'" in note for note in again.notes)


def test_photos_that_are_there_as_raw_ones_in_another_place_are_told(project: Project, tmp_path: Path) -> None:
    file = herd(tmp_path / "herd", [row(0), row(1)])
    (tmp_path / "card").mkdir()
    shutil.copy(tmp_path / "herd" / "0.png", tmp_path / "card" / "IMG_0001.png")
    project.import_(tmp_path / "card", intake.ImportOptions(format="photos"))
    told = [note for note in do_import(project, file, dry_run=True).notes if "as raw photos" in note]
    assert len(told) == 1
    assert told[0].startswith("1 of the 2 photos are in the catalogue as raw photos of source 'card'")
    assert str(tmp_path / "card") in told[0]
    # Below one root they are the same photos, and stand there once.
    project.import_(file.parent, intake.ImportOptions(format="photos"))
    shutil.rmtree(tmp_path / "card")
    project.import_(file.parent, intake.ImportOptions(format="photos"))
    assert not any("as raw photos" in note for note in do_import(project, file).notes)


def test_a_dataset_without_any_name_is_told(project: Project, tmp_path: Path) -> None:
    rows = [{**row(n, individual=""), "Tier-ID": f"z{n}"} for n in range(2)]
    notes = do_import(project, herd(tmp_path / "herd", rows)).notes
    assert any("no row names an individual" in note for note in notes)
    assert any("columns not used: Tier-ID" in note for note in notes)


def test_photos_of_a_detector_s_file_are_put_into_encounters_by_the_rule(project: Project, tmp_path: Path) -> None:
    images = []
    for name, minute in (("a.jpg", 0), ("b.jpg", 30), ("c.jpg", 300)):
        exif = Image.Exif()
        exif[ExifTags.Base.DateTime] = f"2024:05:01 {10 + minute // 60:02}:{minute % 60:02}:00"
        draw_photo(tmp_path / name, exif=exif)
        images.append({"file": name, "detections": [{"category": "1", "conf": 0.9, "bbox": [0.1, 0.1, 0.5, 0.5]}]})
    document = {"info": {"detector": "md"}, "detection_categories": {"1": "animal"}, "images": images}
    (tmp_path / "md.json").write_text(json.dumps(document))
    report = do_import(project, tmp_path / "md.json", species="lion")
    assert (report.added, report.encounters_unknown) == (3, 0)
    encounter = {a.file_name: a.encounter for a in annotations(project)}
    assert encounter["a.jpg"] == encounter["b.jpg"] != encounter["c.jpg"]
