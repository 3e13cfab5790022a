from __future__ import annotations

import errno
import os
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from PIL import ExifTags, Image
from sqlalchemy import MetaData, insert, select

from resight import settings as settings_file
from resight.catalogue import deciding, photo_blocks, raw_photos, schema
from resight.catalogue.database import Database
from resight.catalogue.importing import annotation_key
from resight.catalogue.raw_photos import PhotoOptions, PhotoReport, import_photos
from resight.errors import InputError

from ..made_up import encoded, noise

Row = dict[str, Any]


@dataclass
class Place:
    """A project without its methods, and a card beside it."""

    folder: Path
    card: Path

    @property
    def settings(self) -> settings_file.Settings:
        return settings_file.read(self.folder)

    @property
    def database(self) -> Database:
        return Database(self.settings.resolved_catalogue_url)

    def take(self, card: Path | None = None, **options: Any) -> PhotoReport:
        return import_photos(
            card or self.card,
            database=self.database,
            settings=self.settings,
            options=PhotoOptions(**options),
            reports_folder=self.folder / "reports",
        )

    def images(self) -> list[Row]:
        with self.database.reading() as connection:
            rows = connection.execute(select(schema.images).order_by(schema.images.c.root, schema.images.c.path))
            return [dict(row._mapping) for row in rows]

    def encounters(self) -> dict[str, str | None]:
        """Path → key of its encounter."""
        i, e = schema.images, schema.encounters
        with self.database.reading() as connection:
            rows = connection.execute(select(i.c.path, e.c.key).outerjoin(e, i.c.encounter_id == e.c.id))
            return {row.path: row.key for row in rows}

    def everything(self) -> dict[str, list[Any]]:
        tables = MetaData()
        with self.database.reading() as connection:
            tables.reflect(connection)
            return {
                name: [tuple(row) for row in connection.execute(select(table).order_by(*table.primary_key))]
                for name, table in tables.tables.items()
            }

    def add_settings(self, under: str, line: str) -> None:
        file = self.folder / "resight.toml"
        before = file.read_text(encoding="utf-8")
        assert f"[{under}]\n" in before
        file.write_text(before.replace(f"[{under}]\n", f"[{under}]\n{line}\n", 1), encoding="utf-8")

    def annotate(self, path: str) -> None:
        """An animal in a photo."""
        with self.database.writing() as (connection, _):
            image = connection.execute(select(schema.images).where(schema.images.c.path == path)).one()
            connection.execute(
                insert(schema.annotation_table).values(
                    key=annotation_key("x", path), source_id=image.source_id, source_key=f"detect:{path}",
                    image_id=image.id, file_name=path, theta_rad=0.0,
                )
            )  # fmt: skip


@pytest.fixture
def place(tmp_path: Path) -> Place:
    made = Place(tmp_path / "project", tmp_path / "card")
    settings_file.write_new(made.folder)
    made.database.create()
    made.card.mkdir()
    return made


def content(seed: int, taken: str | None = None, camera: str | None = None, zero: bool = False) -> bytes:
    exif = Image.Exif()
    if camera is not None:
        exif[ExifTags.Base.Model] = camera
    if taken is not None:
        exif.get_ifd(ExifTags.IFD.Exif)[ExifTags.Base.DateTimeOriginal] = taken.replace("-", ":").replace("T", " ")
    if zero:
        exif.get_ifd(ExifTags.IFD.GPSInfo).update({1: "N", 2: (0.0, 0.0, 0.0), 3: "E", 4: (0.0, 0.0, 0.0)})
    return encoded(noise(seed), "JPEG", exif=exif)


def write(file: Path, seed: int, **told: Any) -> Path:
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_bytes(content(seed, **told))
    return file


def kinds(report: PhotoReport) -> dict[str, int]:
    """The counts that are not zero."""
    names = ("added", "updated", "unchanged", "moved", "copies", "quarantined", "skipped")
    return {name: getattr(report, name) for name in names if getattr(report, name)}


# What comes in


def test_photos_are_in_the_catalogue_with_what_their_headers_tell(place: Place) -> None:
    write(place.card / "DCIM" / "100CANON" / "IMG_1.JPG", 1, taken="2024-05-01T10:00:00", camera="D500")
    (place.card / "b.png").write_bytes(encoded(noise(2, 40, 30)))
    report = place.take(species="nyala")
    assert (report.source, report.format, report.images, report.annotations) == ("card", "photos", 2, 0)
    assert (report.encounters, report.species, report.individuals) == (1, 1, 0)
    assert kinds(report) == {"added": 2}
    assert report.problems == ()
    assert report.problems_file is None
    canon, png = place.images()
    assert (canon["root"], canon["path"], canon["camera"]) == ("card", "DCIM/100CANON/IMG_1.JPG", "D500")
    assert canon["camera_time"] == canon["taken_at"] == "2024-05-01T10:00:00"
    assert (png["width"], png["height"], png["taken_at"], png["encounter_id"]) == (40, 30, None, None)
    assert {row["species"] for row in (canon, png)} == {"nyala"}
    assert {row["status"] for row in (canon, png)} == {"unverified"}  # their headers were read, not their pixels
    assert place.settings.image_roots == {"card": place.card}
    assert place.encounters()["DCIM/100CANON/IMG_1.JPG"] == "DCIM/100CANON@2024-05-01T10:00:00"


def test_importing_again_changes_nothing_and_reads_nothing(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    for seed in range(3):
        write(place.card / f"{seed}.jpg", seed, taken="2024-05-01T10:00:00")
    place.take()
    before = place.everything()
    monkeypatch.setattr(photo_blocks, "read_file", lambda path: pytest.fail(f"{path} was read"))
    again = place.take()
    assert kinds(again) == {"unchanged": 3}
    assert (again.images, again.encounters) == (3, 1)
    assert place.everything() == before


def test_a_file_that_was_only_written_anew_is_the_same_photo(place: Place) -> None:
    file = write(place.card / "a.jpg", 1)
    place.take()
    os.utime(file, ns=(5, 5))
    assert kinds(place.take()) == {"unchanged": 1}
    assert place.images()[0]["modified_ns"] == 5


def test_a_card_copied_twice_adds_nothing(place: Place, tmp_path: Path) -> None:
    for seed in range(3):
        write(place.card / "DCIM" / f"{seed}.jpg", seed)
    (place.card / "DCIM" / "cut.jpg").write_bytes(content(9)[:-100])
    first = place.take()
    assert kinds(first) == {"added": 3, "quarantined": 1}
    shutil.copytree(place.card, tmp_path / "backup")
    before = place.everything()
    second = place.take(tmp_path / "backup")
    assert kinds(second) == {"copies": 4}
    assert (second.images, second.source) == (0, "backup")
    assert any("4 files are copies" in note for note in second.notes)
    assert place.everything() == before


def test_the_species_said_of_copies_is_not_lost_without_a_word(place: Place, tmp_path: Path) -> None:
    write(place.card / "1.jpg", 1)
    assert not any("--species" in note for note in place.take(species="nyala").notes)
    shutil.copytree(place.card, tmp_path / "copy")
    note = place.take(tmp_path / "copy", species="lion").notes[-1]
    assert note.startswith("--species lion was not taken over for the 1 copies")
    assert [row["species"] for row in place.images()] == ["nyala"]


def test_copies_within_one_import_are_found_whatever_the_block(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(raw_photos, "BLOCK", 2)
    for number in range(6):
        write(place.card / f"{number}.jpg", number % 2)
    for dry_run in (True, False):
        assert kinds(place.take(dry_run=dry_run)) == {"added": 2, "copies": 4}
    assert [row["path"] for row in place.images()] == ["0.jpg", "1.jpg"]


def test_two_cameras_with_the_same_file_names(place: Place, tmp_path: Path) -> None:
    for number, folder in enumerate(("A", "B")):
        write(tmp_path / folder / "DCIM" / "100CANON" / "IMG_0001.JPG", number, taken="2024-05-01T10:00:00")
    for folder in ("A", "B"):
        assert kinds(place.take(tmp_path / folder / "DCIM", source="survey")) == {"added": 1}
    assert [(row["root"], row["path"]) for row in place.images()] == [
        ("survey", "100CANON/IMG_0001.JPG"),
        ("survey-2", "100CANON/IMG_0001.JPG"),
    ]
    # The same folder, camera and time on two cards are two encounters.
    assert len({row["encounter_id"] for row in place.images()}) == 2


def test_a_card_is_named_by_what_is_above_its_dcim(place: Place, tmp_path: Path) -> None:
    write(tmp_path / "station 7" / "DCIM" / "1.jpg", 1)
    assert place.take(tmp_path / "station 7" / "DCIM").source == "station 7"


def test_a_photo_whose_file_has_gone_is_moved(place: Place, tmp_path: Path) -> None:
    file = write(place.card / "a.jpg", 1)
    stays = write(place.card / "b.jpg", 2)
    place.take()
    place.annotate("a.jpg")
    (tmp_path / "archive").mkdir()
    file.rename(tmp_path / "archive" / "new name.jpg")
    shutil.copy(stays, tmp_path / "archive" / "b.jpg")
    assert kinds(place.take(tmp_path / "archive")) == {"moved": 1, "copies": 1}
    assert [(row["root"], row["path"]) for row in place.images()] == [("archive", "new name.jpg"), ("card", "b.jpg")]


def test_names_that_were_handed_on_lose_no_photo(place: Place) -> None:
    """The card was formatted: 1.jpg is another photo now, and the first one was saved as old.jpg."""
    write(place.card / "1.jpg", 1)
    place.take()
    (place.card / "1.jpg").rename(place.card / "old.jpg")
    write(place.card / "1.jpg", 2)
    report = place.take()
    assert kinds(report) == {"updated": 1, "added": 1}
    assert len({row["content_hash"] for row in place.images()}) == 2
    assert any(note.startswith("1 files hold another picture") for note in report.notes)


def test_another_card_in_the_place_of_a_known_one_replaces_no_photo(place: Place) -> None:
    """Cards are named alike, so the next one lies where the last one was, with files of the same names."""
    write(place.card / "DCIM" / "1.jpg", 1, camera="A", taken="2024-05-01T10:00:00")
    place.take()
    known = place.images()
    for camera, taken in (("B", "2024-05-01T10:00:00"), ("A", "2024-06-01T10:00:00")):
        write(place.card / "DCIM" / "1.jpg", 2, camera=camera, taken=taken)
        report = place.take()
        assert kinds(report) == {"skipped": 1}
        assert "another photo than the one of this name in the catalogue" in report.problems[0].problem
        assert place.images() == known
    # One that was edited where it lies tells the same camera and time.
    write(place.card / "DCIM" / "1.jpg", 2, camera="A", taken="2024-05-01T10:00:00")
    report = place.take()
    assert kinds(report) == {"updated": 1}
    assert any(note.startswith("1 files hold another picture") for note in report.notes)


def test_another_photo_under_the_name_of_one_with_animals_is_a_problem(place: Place) -> None:
    write(place.card / "1.jpg", 1)
    place.take()
    place.annotate("1.jpg")
    known = place.images()
    write(place.card / "1.jpg", 2)
    report = place.take()
    assert kinds(report) == {"skipped": 1}
    (problem,) = report.problems
    assert (problem.row, problem.severity) == ("1.jpg", "refused")
    assert "another photo than the one of this name" in problem.problem
    assert place.images() == known
    # Both are there once the old one has a place again.
    write(place.card / "old.jpg", 1)
    os.utime(place.card / "1.jpg", ns=(5, 5))
    (place.card / "1.jpg").write_bytes(content(2) + b"\0")  # of another size, so the old one is surely not there
    assert kinds(place.take()) == {"skipped": 1, "moved": 1}
    assert kinds(place.take()) == {"added": 1, "unchanged": 1}


def test_two_photos_that_swapped_their_names_are_a_problem_and_both_stay(place: Place) -> None:
    write(place.card / "1.jpg", 1)
    write(place.card / "2.jpg", 2)
    place.take()
    known = place.images()
    write(place.card / "1.jpg", 2)
    write(place.card / "2.jpg", 1)
    report = place.take()
    assert kinds(report) == {"skipped": 2}
    assert "holds the photo known as card/2.jpg now" in report.problems[0].problem
    assert place.images() == known


def test_a_broken_photo_may_be_broken_otherwise_or_elsewhere(place: Place) -> None:
    (place.card / "a.jpg").write_bytes(content(1)[:-300])
    place.take()
    (place.card / "a.jpg").write_bytes(content(1)[:-200])
    assert kinds(place.take()) == {"quarantined": 1}
    (place.card / "a.jpg").rename(place.card / "b.jpg")
    report = place.take()
    assert kinds(report) == {"quarantined": 1}
    assert "cut short" in report.problems[0].problem
    assert [row["path"] for row in place.images()] == ["b.jpg"]
    write(place.card / "b.jpg", 1)
    assert kinds(place.take()) == {"updated": 1}
    assert [row["status"] for row in place.images()] == ["unverified"]


def test_what_a_file_of_annotations_stated_of_its_photos_stays(place: Place) -> None:
    file = write(place.card / "1.jpg", 1, taken="2024-05-01T10:00:00", camera="D500")
    with place.database.writing() as (connection, _):
        known = {"root": "card", "path": "1.jpg", "status": "unverified", "taken_at": "2023-12-31"}
        connection.execute(insert(schema.images).values(known))
    settings_file.add_image_root(place.settings, "card", place.card)
    assert kinds(place.take(species="nyala")) == {"updated": 1}  # its content was not known
    for _ in range(2):
        os.utime(file, ns=(5, 5))
        place.take()
        (image,) = place.images()
        assert (image["taken_at"], image["camera_time"], image["species"]) == ("2023-12-31", None, None)
        assert image["content_hash"] is not None
        file.touch()


def test_species_said_later_is_taken_over(place: Place) -> None:
    write(place.card / "1.jpg", 1)
    place.take()
    assert kinds(place.take(species="nyala")) == {"updated": 1}
    assert kinds(place.take()) == {"unchanged": 1}
    assert place.images()[0]["species"] == "nyala"


def test_species_said_later_is_that_of_the_animals_found_before(place: Place) -> None:
    for number in range(3):
        write(place.card / f"{number}.jpg", number)
    place.take()
    for number in range(3):
        place.annotate(f"{number}.jpg")
    with place.database.writing() as (connection, revision):
        for path, value in (("1.jpg", "lion"), ("2.jpg", "unknown")):
            key = [annotation_key("x", path)]
            deciding.correct(connection, revision, key, "species", value, settings=place.settings, actor="me")
    report = place.take(species="zebra+face")
    assert "1 animals that were found before have the species of their photos now" in report.notes
    table = schema.annotation_table.c
    with place.database.reading() as connection:
        query = select(table.species, table.source_species, table.part).order_by(table.file_name)
        found = [tuple(row) for row in connection.execute(query)]
    assert found == [("zebra+face", "zebra+face", "face"), ("lion", None, None), (None, None, None)]
    before = place.everything()
    assert not any("found before" in note for note in place.take(species="zebra+face").notes)
    assert place.everything()["annotations"] == before["annotations"]


# What is broken


def broken_card(place: Place) -> None:
    write(place.card / "good.jpg", 1)
    (place.card / "cut.jpg").write_bytes(content(2)[:-200])
    (place.card / "cut.png").write_bytes(encoded(noise(3))[:-200])
    (place.card / "empty.jpg").write_bytes(b"")
    (place.card / "text.jpg").write_text("no picture")
    (place.card / "bare.jpg").write_bytes(content(4)[:-2])  # its end mark alone is lacking
    (place.card / "gone.jpg").symlink_to(place.card / "nowhere.jpg")


def test_unreadable_files_are_quarantined_and_tried_again(place: Place) -> None:
    broken_card(place)
    report = place.take()
    bad = {"cut.jpg", "cut.png", "empty.jpg", "text.jpg", "gone.jpg"}
    problems = {problem.row: problem for problem in report.problems}
    refused_by_decoder = {"bare.jpg"} & problems.keys()
    assert problems.keys() == bad | refused_by_decoder
    assert {problem.severity for problem in report.problems} == {"quarantined"}
    assert "cut short" in problems["cut.jpg"].problem
    assert "empty" in problems["empty.jpg"].problem
    assert "cannot be reached" in problems["gone.jpg"].problem
    assert "not a picture" in problems["text.jpg"].problem
    statuses = {row["path"]: (row["status"], row["problem"]) for row in place.images()}
    assert {path for path, (status, _) in statuses.items() if status == "quarantined"} == problems.keys()
    assert Path(str(report.problems_file)).read_text().count("\n") == 1 + len(problems)
    before = place.everything()
    again = place.take()
    assert kinds(again) == {"unchanged": 7 - len(problems), "quarantined": len(problems)}
    assert place.everything() == before
    write(place.card / "cut.jpg", 2)
    assert "cut.jpg" not in {problem.row for problem in place.take().problems}
    (mended,) = [row for row in place.images() if row["path"] == "cut.jpg"]
    assert (mended["status"], mended["problem"], mended["width"]) == ("unverified", None, 32)


def fails_on(names: set[str], code: int) -> Callable[[Path], bytes]:
    read = Path.read_bytes

    def failing(self: Path) -> bytes:
        if self.name in names:
            raise OSError(code, os.strerror(code))
        return read(self)

    return failing


@pytest.mark.parametrize("code", [errno.EIO, errno.EACCES])
def test_a_dying_card_stops_nothing(place: Place, monkeypatch: pytest.MonkeyPatch, code: int) -> None:
    for seed in range(4):
        write(place.card / f"{seed}.jpg", seed)
    with monkeypatch.context() as patch:
        patch.setattr(Path, "read_bytes", fails_on({"1.jpg", "3.jpg"}, code))
        report = place.take()
    assert kinds(report) == {"added": 2, "quarantined": 2}
    assert os.strerror(code) in report.problems[0].problem
    assert kinds(place.take()) == {"unchanged": 2, "updated": 2}
    assert all(row["status"] == "unverified" and row["problem"] is None for row in place.images())


def test_a_known_photo_that_cannot_be_read_now_is_kept_as_it_was(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    file = write(place.card / "1.jpg", 1)
    place.take()
    known = place.images()
    os.utime(file, ns=(5, 5))
    monkeypatch.setattr(Path, "read_bytes", fails_on({"1.jpg"}, errno.EIO))
    report = place.take()
    assert kinds(report) == {"skipped": 1}
    assert "keeps what it knows" in report.problems[0].problem
    monkeypatch.undo()
    file.write_bytes(file.read_bytes()[:-100])
    assert "it was a good photo when it was imported" in place.take().problems[0].problem
    assert place.images() == known


def test_a_folder_that_may_not_be_read_is_a_problem_of_its_own(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    write(place.card / "open" / "1.jpg", 1)
    write(place.card / "shut" / "2.jpg", 2)
    scan = os.scandir

    def refusing(path: Any) -> Any:
        if Path(path).name == "shut":
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), str(path))
        return scan(path)

    monkeypatch.setattr(os, "scandir", refusing)
    report = place.take()
    assert kinds(report) == {"added": 1}
    assert [(p.row, p.field) for p in report.problems] == [("shut", "folder")]


def test_an_import_that_broke_off_goes_on_where_it_was(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(raw_photos, "BLOCK", 3)
    for seed in range(8):
        write(place.card / f"{seed}.jpg", seed, taken="2024-05-01T10:00:00")
    look = raw_photos.look

    def pulled_out(folder: Path, path: str, known: Any) -> Any:
        if path == "4.jpg":
            raise KeyboardInterrupt
        return look(folder, path, known)

    with monkeypatch.context() as patch:
        patch.setattr(raw_photos, "look", pulled_out)
        with pytest.raises(KeyboardInterrupt):
            place.take()
    assert [row["path"] for row in place.images()] == ["0.jpg", "1.jpg", "2.jpg"]
    report = place.take()
    assert kinds(report) == {"added": 5, "unchanged": 3}
    assert set(place.encounters().values()) == {".@2024-05-01T10:00:00"}


def test_a_dry_run_says_what_would_be_done_and_does_nothing(place: Place) -> None:
    broken_card(place)
    write(place.card / "a" / "1.jpg", 11, taken="2024-05-01T10:00:00", camera="D500")
    write(place.card / "a" / "2.jpg", 12, taken="2024-05-01T12:00:00", camera="D500")
    write(place.card / "a" / "copy.jpg", 12, taken="2024-05-01T12:00:00", camera="D500")
    before, text = place.everything(), (place.folder / "resight.toml").read_text()
    dry = place.take(dry_run=True)
    assert place.everything() == before
    assert (place.folder / "resight.toml").read_text() == text
    done = place.take()
    assert dry.dry_run
    assert not done.dry_run
    assert kinds(dry) == kinds(done)
    assert (dry.encounters, dry.cameras, dry.problems, dry.notes) == (2, done.cameras, done.problems, done.notes)
    assert done.encounters == 2
    again = place.take(dry_run=True)
    assert (kinds(again)["unchanged"], again.encounters) == (done.added, 2)


def test_every_file_is_in_one_count(place: Place) -> None:
    broken_card(place)
    write(place.card / "twice.jpg", 1)
    write(place.card / ".Trashes" / "x.jpg", 5)
    write(place.card / "@eaDir" / "x.jpg", 6)
    for name in ("._IMG_1.JPG", "Thumbs.db", "a.CR2", "b.cr2", "c.xmp", "d.txt", "noend"):
        (place.card / name).write_bytes(b"x")
    report = place.take()
    pictures = sum(name.suffix == ".jpg" or name.suffix == ".png" for name in place.card.iterdir())
    assert sum(kinds(report).values()) == pictures == 8
    notes = "\n".join(report.notes)
    assert "2 .cr2: raw files" in notes
    assert "1 .xmp: files that go with" in notes
    assert "1 .txt, 1 without suffix: files that are neither" in notes
    assert "2 hidden files passed over and 2 hidden folders" in notes


def test_links_in_a_circle_end(place: Place) -> None:
    write(place.card / "a" / "1.jpg", 1)
    (place.card / "a" / "round").symlink_to(place.card)
    (place.card / "0 link").symlink_to(place.card / "a")
    report = place.take()
    assert kinds(report) == {"added": 1}
    assert place.images()[0]["path"] == "a/1.jpg"
    assert "2 links to folders that are looked into anyway" in report.notes


def test_a_linked_folder_from_elsewhere_is_looked_into(place: Place, tmp_path: Path) -> None:
    write(tmp_path / "other" / "1.jpg", 1)
    (place.card / "link").symlink_to(tmp_path / "other")
    assert kinds(place.take()) == {"added": 1}


def test_a_name_that_is_no_text_is_a_problem(place: Place) -> None:
    write(place.card / "1.jpg", 1)
    Path(os.fsdecode(os.fsencode(place.card) + b"/\xe9.jpg")).write_bytes(content(2))
    report = place.take()
    assert kinds(report) == {"added": 1, "skipped": 1}
    assert report.problems[0].row == "\\xe9.jpg"


def test_what_the_project_has_computed_is_no_photo(place: Place) -> None:
    write(place.folder / "chips" / "1.jpg", 1)
    write(place.folder / "photos" / "2.jpg", 2)
    report = place.take(place.folder)
    assert kinds(report) == {"added": 1}
    assert "1 folders of the project itself not looked into" in report.notes


@pytest.mark.parametrize("name", ["nowhere", "1.txt", "card"])
def test_without_photos_one_line_says_what_is_there(place: Place, name: str) -> None:
    (place.card / "x.nef").write_bytes(b"x")
    (place.card.parent / "1.txt").write_text("x")
    words = {"nowhere": "no such folder", "1.txt": "not a folder", "card": "no photos below it .*1 .nef: raw files"}
    with pytest.raises(InputError, match=words[name]):
        place.take(place.card.parent / name)
