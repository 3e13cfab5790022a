from __future__ import annotations

from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
from PIL import Image

from resight.catalogue import videos
from resight.catalogue.videos import hash_of, take_frames
from resight.errors import InputError

from .test_raw_photos import Place, kinds, place, write

__all__ = ["place"]

RED, GREEN = (255, 0, 0), (0, 255, 0)
IDENTITY = b"".join(n.to_bytes(4, "big", signed=True) for n in (65536, 0, 0, 0, 65536, 0, 0, 0, 1 << 30))


def film(file: Path, seconds: float = 5.0, shade: int = 0, **metadata: str) -> Path:
    """Ten frames a second; red above on the left, green on the right, and below grey that says which second it is."""
    file.parent.mkdir(parents=True, exist_ok=True)
    with av.open(str(file), "w") as container:
        container.metadata.update(metadata)
        stream = container.add_stream("mpeg4", rate=10)
        stream.width, stream.height, stream.pix_fmt = 96, 64, "yuv420p"
        stream.bit_rate = 2_000_000
        for number in range(round(seconds * 10)):
            pixels = np.full((64, 96, 3), 40 * (number // 10) + shade, np.uint8)
            pixels[:32, :48], pixels[:32, 48:] = RED, GREEN
            container.mux(stream.encode(av.VideoFrame.from_ndarray(pixels, format="rgb24")))
        container.mux(stream.encode())
    return file


def turned(file: Path, a: int, b: int, c: int, d: int) -> Path:
    """The same video with a display matrix, as a phone that is held upright writes it."""
    content = file.read_bytes()
    at = content.index(IDENTITY, content.index(b"tkhd"))
    matrix = (65536 * a, 65536 * b, 0, 65536 * c, 65536 * d, 0, 0, 0, 1 << 30)
    words = b"".join(n.to_bytes(4, "big", signed=True) for n in matrix)
    file.write_bytes(content[:at] + words + content[at + len(IDENTITY) :])
    return file


def pixels(file: Path) -> Any:
    return np.asarray(Image.open(file).convert("RGB")).astype(int)


def take(file: Path, folder: Path, every: float = 1.0) -> videos.Frames:
    return take_frames(file, hash_of(file), folder, every)


@pytest.mark.parametrize("suffix", ["mp4", "avi", "mkv", "mov"])
def test_a_frame_is_taken_every_second(tmp_path: Path, suffix: str) -> None:
    file = film(tmp_path / f"x.{suffix}")
    found = take(file, tmp_path / "frames")
    assert found.problem is None
    below = hash_of(file)[:16]
    assert [frame.path for frame in found.frames] == [f"{below}/{n:05}.000.jpg" for n in range(5)]
    for number, frame in enumerate(found.frames):
        shown = pixels(tmp_path / "frames" / frame.path)
        assert shown.shape == (frame.height, frame.width, 3) == (64, 96, 3)
        assert abs(shown[50, 50] - 40 * number).max() <= 6
    assert len(list((tmp_path / "frames" / below).iterdir())) == 5


@pytest.mark.parametrize(("every", "times"), [(2, [0, 2, 4]), (0.25, [0, 0.3, 0.5, 0.8]), (60, [0])])
def test_the_first_frame_at_or_after_each_multiple_is_taken(tmp_path: Path, every: float, times: list[float]) -> None:
    found = take(film(tmp_path / "x.mp4", 1.0 if every < 1 else 5.0), tmp_path, every)
    assert [frame.seconds for frame in found.frames] == pytest.approx(times)


@pytest.mark.parametrize(
    ("matrix", "red", "green"),
    [
        ((1, 0, 0, 1), (16, 24), (16, 72)),
        ((0, 1, -1, 0), (24, 48), (72, 48)),  # a quarter clockwise: what was above is on the right
        ((-1, 0, 0, -1), (48, 72), (48, 24)),
        ((0, -1, 1, 0), (72, 16), (24, 16)),
    ],
)
def test_frames_are_upright(
    tmp_path: Path, matrix: tuple[int, int, int, int], red: tuple[int, int], green: tuple[int, int]
) -> None:
    found = take(turned(film(tmp_path / "x.mp4", 0.5), *matrix), tmp_path)
    shown = pixels(tmp_path / found.frames[0].path)
    assert abs(shown[red] - RED).max() < 60
    assert abs(shown[green] - GREEN).max() < 60


def test_time_and_camera_are_those_of_the_place(tmp_path: Path) -> None:
    utc = film(tmp_path / "a.mp4", 1.5, creation_time="2024-05-01T10:00:00.000000Z")
    assert [f.camera_time for f in take(utc, tmp_path).frames] == ["2024-05-01T10:00:00.000", "2024-05-01T10:00:01.000"]
    assert take(film(tmp_path / "b.avi", 0.5), tmp_path).frames[0].camera_time is None
    dated = film(tmp_path / "c.mkv", 0.5, date="2024-05-01T12:30:00+0200", make="Acme", model="Acme T1")
    found = take(dated, tmp_path)
    assert (found.camera, found.frames[0].camera_time) == ("Acme T1", "2024-05-01T12:30:00.000")


def test_of_a_video_cut_short_what_is_there_is_taken(tmp_path: Path) -> None:
    file = film(tmp_path / "x.mkv")
    file.write_bytes(file.read_bytes()[: file.stat().st_size // 2])
    found = take(file, tmp_path)
    assert 1 <= len(found.frames) <= 4
    assert "of 5.0 s" in str(found.problem)


def test_what_is_no_video_gives_no_frames(tmp_path: Path) -> None:
    whole = film(tmp_path / "x.mp4")
    (tmp_path / "text.mp4").write_text("no video")
    (tmp_path / "cut.mp4").write_bytes(whole.read_bytes()[:500])
    (tmp_path / "empty.mp4").write_bytes(b"")
    for name in ("text.mp4", "cut.mp4", "empty.mp4"):
        found = take(tmp_path / name, tmp_path)
        assert found.frames == ()
        assert found.problem


@pytest.mark.parametrize("every", [0, -1, float("nan"), float("inf")])
def test_an_interval_is_a_time(tmp_path: Path, every: float) -> None:
    with pytest.raises(InputError, match="expected a number above 0"):
        take(film(tmp_path / "x.mp4", 0.5), tmp_path, every)


# Imported


def test_the_frames_of_a_video_are_photos_of_one_encounter(place: Place) -> None:
    film(place.card / "VID_1.MP4", creation_time="2024-05-01T10:00:00.000000Z")
    write(place.card / "1.jpg", 1, taken="2024-05-01T10:00:00")
    report = place.take(species="nyala")
    assert kinds(report) == {"added": 6}
    assert (report.images, report.videos, report.frames, report.encounters) == (6, 1, 5, 2)
    frames = [row for row in place.images() if row["root"] == "frames"]
    name = hash_of(place.card / "VID_1.MP4")[:16]
    assert [row["path"] for row in frames] == [f"{name}/{n:05}.000.jpg" for n in range(5)]
    assert [row["taken_at"] for row in frames] == [f"2024-05-01T10:00:0{n}.000" for n in range(5)]
    assert {row["species"] for row in frames} == {"nyala"}
    assert {key for path, key in place.encounters().items() if path != "1.jpg"} == {f"video:VID_1.MP4@{name}"}
    assert place.settings.image_roots["frames"] == place.folder / "frames"
    assert all((place.folder / "frames" / row["path"]).stat().st_size == row["byte_size"] for row in frames)


def test_a_known_video_is_not_read_again_whatever_its_name_and_interval(place: Place) -> None:
    first = film(place.card / "a" / "x.mp4", 3.0, creation_time="1970-01-02T00:00:00.000000Z")
    place.take()
    before = place.everything()
    first.rename(place.card / "y.mp4")
    report = place.take(video_seconds=0.5)
    assert kinds(report) == {"unchanged": 3}
    assert any("1 videos are known by their content" in note for note in report.notes)
    assert place.everything() == before
    place.add_settings("clocks", '"." = { showed = "1970-01-02T00:00:00", was = "2024-05-01T10:00:00" }')
    place.take()
    assert [row["taken_at"] for row in place.images()] == [f"2024-05-01T10:00:0{n}" for n in range(3)]
    assert kinds(place.take(species="nyala")) == {"updated": 3}
    assert {row["species"] for row in place.images()} == {"nyala"}
    assert kinds(place.take(species="nyala")) == kinds(place.take()) == {"unchanged": 3}


def test_a_copy_of_a_video_adds_nothing_on_the_same_card_or_another(place: Place, tmp_path: Path) -> None:
    film(place.card / "a" / "x.mp4", 3.0, creation_time="1970-01-02T00:00:00.000000Z")
    for copy in (place.card / "b" / "y.mp4", tmp_path / "other" / "z.mp4"):
        copy.parent.mkdir(parents=True)
        copy.write_bytes((place.card / "a" / "x.mp4").read_bytes())
    # The clock of the folder in which it was met first holds, not that of its copy.
    place.add_settings("clocks", '"a" = { showed = "1970-01-02T00:00:00", was = "2024-05-01T10:00:00" }')
    place.add_settings("clocks", '"b" = { showed = "1970-01-02T00:00:00", was = "2025-05-01T10:00:00" }')
    for kind in ("added", "unchanged"):
        report = place.take()
        assert kinds(report) == {kind: 3, "copies": 1}
        assert (report.images, report.frames, report.videos, report.cameras[0].photos) == (3, 3, 2, 3)
        assert [row["taken_at"] for row in place.images()] == [f"2024-05-01T10:00:0{n}" for n in range(3)]
    before = place.images()
    report = place.take(tmp_path / "other")
    assert (kinds(report), report.frames, report.cameras) == ({"copies": 1}, 0, ())
    assert place.images() == before


def test_a_dry_run_takes_no_frames(place: Place) -> None:
    film(place.card / "x.mp4", 1.0)
    before = place.everything()
    report = place.take(dry_run=True)
    assert place.everything() == before
    assert not (place.folder / "frames").exists()
    assert "1 new videos; their frames are counted when they are taken" in report.notes


def test_a_broken_video_stops_nothing(place: Place) -> None:
    half = film(place.card / "half.mkv")
    half.write_bytes(half.read_bytes()[: half.stat().st_size // 2])
    (place.card / "text.mov").write_text("no video")
    write(place.card / "1.jpg", 1)
    report = place.take()
    assert report.skipped == 1
    assert [(p.row, p.severity) for p in report.problems] == [("half.mkv", "quarantined"), ("text.mov", "refused")]
    assert report.added == 1 + report.frames
    assert report.frames >= 1


def test_without_the_library_photos_come_in_and_videos_are_listed(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    film(place.card / "x.mp4", 0.5)
    monkeypatch.setattr(videos, "find_spec", lambda name: None)
    with pytest.raises(InputError, match=r"pip install 'resight\[video\]'"):
        place.take()
    write(place.card / "1.jpg", 1)
    report = place.take()
    assert kinds(report) == {"added": 1, "skipped": 1}
    assert "resight[video]" in report.problems[0].problem


def test_a_source_named_frames_keeps_its_root(place: Place) -> None:
    write(place.card / "1.jpg", 1)
    place.take(source="frames")
    film(place.card / "x.mp4", 0.5)
    place.take(source="frames")
    roots = {row["root"]: row["path"] for row in place.images()}
    assert roots.keys() == {"frames", "frames-2"}
    assert roots["frames"] == "1.jpg"
    assert kinds(place.take(source="frames")) == {"unchanged": 2}
