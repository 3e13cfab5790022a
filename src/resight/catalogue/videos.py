"""Videos become photos: one upright frame every so many seconds, kept below the project and taken only once."""

from __future__ import annotations

import hashlib
import io
import math
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

from resight.artefacts import atomic_path, content_hash
from resight.errors import InputError

if TYPE_CHECKING:
    from av.container import InputContainer
    from av.video.frame import VideoFrame
    from av.video.stream import VideoStream
    from PIL.Image import Image

JPEG_QUALITY = 95
HASH_CHARACTERS = 16  # of a video's hash; they name the folder of its frames
_READ_BYTES = 1 << 20
_LACKING_SECONDS = 2.0  # a video that ends so much before its stated end is called cut short

# As iPhones write it, with the zone of the place, unlike creation_time, which is meant to be UTC.
_LOCAL_TIME_TAGS = ("com.apple.quicktime.creationdate", "date")
_MAKE_TAGS = ("com.apple.quicktime.make", "make", "com.android.manufacturer")
_MODEL_TAGS = ("com.apple.quicktime.model", "model", "com.android.model")


@dataclass(frozen=True, slots=True)
class Frame:
    """One frame of a video, as it lies on disk.

    Attributes:
        path: Below the folder of all frames, with ``/`` between its parts.
        seconds: Since the start of the video.
        content_hash: SHA-256 of the JPEG.
        byte_size: Of the JPEG.
        modified_ns: When it was written.
        width: Pixels, upright.
        height: Pixels, upright.
        camera_time: ISO 8601, where the video says when it began.
    """

    path: str
    seconds: float
    content_hash: str
    byte_size: int
    modified_ns: int
    width: int
    height: int
    camera_time: str | None


@dataclass(frozen=True)
class Frames:
    """What was read of a video; ``problem`` says what could not be, or is ``None``."""

    frames: tuple[Frame, ...]
    camera: str | None
    problem: str | None


def lacking_library() -> str | None:
    """How to install what reads videos, as a line for the user; ``None`` where it is there."""
    if find_spec("av") is not None:
        return None
    return "videos are read with PyAV, which is not installed: pip install 'resight[video]'"


def hash_of(video: Path) -> str:
    """SHA-256 of a video file, read piece by piece.

    Raises:
        OSError: it cannot be read.
    """
    digest = hashlib.sha256()
    with video.open("rb") as file:
        while piece := file.read(_READ_BYTES):
            digest.update(piece)
    return digest.hexdigest()


def folder_name(video_hash: str) -> str:
    """The folder of a video's frames, below the one of all frames."""
    return video_hash[:HASH_CHARACTERS]


def take_frames(video: Path, video_hash: str, folder: Path, every_seconds: float) -> Frames:
    """Write one frame every so many seconds as a JPEG; the first frame is the first of them.

    The video is decoded from its start to its end, a frame at a time, so memory does not grow with its length. What
    cannot be decoded in between is stepped over.

    Args:
        video: The file.
        video_hash: Of its content.
        folder: Of all frames; these go to ``<first 16 digits of the hash>/<seconds>.jpg`` below it.
        every_seconds: More than 0.

    Raises:
        InputError: PyAV is not installed, or ``every_seconds`` is not a time.
    """
    lacking = lacking_library()
    if lacking is not None:
        raise InputError(f"{video}: {lacking}")
    import av

    if not (math.isfinite(every_seconds) and every_seconds > 0):
        raise InputError(f"a frame every {every_seconds!r} seconds: expected a number above 0")
    taken: list[Frame] = []
    camera = None
    try:
        with av.open(str(video)) as container:
            if not container.streams.video:
                return Frames((), None, "there are no pictures in this video; it may be cut short, copy it anew")
            stream = container.streams.video[0]
            stream.thread_type = "AUTO"
            told = {name.lower(): text for name, text in container.metadata.items()}  # Matroska writes them in capitals
            began, camera = _start_time(told), _camera(told)
            broken, last = 0, 0.0
            wanted = 0  # number of the next frame that is kept
            for frame in _decoded(container, stream):
                if frame is None:
                    broken += 1
                    continue
                last = max(last, _seconds(frame, stream))
                if last + 1e-6 < wanted * every_seconds:
                    continue
                wanted = math.floor((last + 1e-6) / every_seconds) + 1
                name = f"{folder_name(video_hash)}/{last:09.3f}.jpg"
                taken.append(_written(_upright(frame, stream), folder, name, last, began))
            missing = 0.0 if container.duration is None else container.duration / av.time_base - last
    except av.FFmpegError as error:
        return Frames(tuple(taken), camera, f"cannot be read as a video ({error.strerror}); copy it anew")
    except OSError as error:
        return Frames(tuple(taken), camera, f"cannot be read ({error.strerror}); see to its permissions or drive")
    problem = None
    if not taken:
        problem = "no frame can be decoded; copy the video anew"
    elif missing > max(_LACKING_SECONDS, 0.05 * (last + missing)):
        problem = f"ends after {last:.1f} s of {last + missing:.1f} s; what is there was taken, copy the video anew"
    elif broken:
        problem = f"{broken:,} pieces cannot be decoded; the frames around them were taken"
    return Frames(tuple(taken), camera, problem)


def _decoded(container: InputContainer, stream: VideoStream) -> Iterator[VideoFrame | None]:
    """Every frame in order; ``None`` stands for a piece that cannot be decoded."""
    import av

    for packet in container.demux(stream):
        try:
            frames = packet.decode()
        except av.FFmpegError:
            yield None
            continue
        for frame in frames:
            if isinstance(frame, av.VideoFrame):
                yield frame


def _seconds(frame: VideoFrame, stream: VideoStream) -> float:
    """Since the start of the stream, whose clock may begin anywhere."""
    if frame.pts is None or stream.time_base is None:
        return 0.0
    return float((frame.pts - (stream.start_time or 0)) * stream.time_base)


def _upright(frame: VideoFrame, stream: VideoStream) -> Image:
    from PIL.Image import Resampling, Transpose

    picture: Image = frame.to_image()  # type: ignore[no-untyped-call]
    shape = stream.sample_aspect_ratio
    if shape and shape != 1:  # pixels that are not square
        wide = max(1, round(picture.width * float(shape)))
        picture = picture.resize((wide, picture.height), Resampling.BILINEAR)
    # Degrees counter-clockwise by which the frame is to be turned to be shown.
    turns = {90: Transpose.ROTATE_90, 180: Transpose.ROTATE_180, 270: Transpose.ROTATE_270}
    turn = turns.get(round(frame.rotation) % 360)
    return picture if turn is None else picture.transpose(turn)


def _written(picture: Image, folder: Path, name: str, seconds: float, began: datetime | None) -> Frame:
    buffer = io.BytesIO()
    picture.save(buffer, "JPEG", quality=JPEG_QUALITY)
    content = buffer.getvalue()
    target = folder / name
    try:
        with atomic_path(target, durable=False) as temporary:
            temporary.write_bytes(content)
    except OSError as error:
        raise InputError(f"{target}: the frame cannot be written ({error.strerror}); see to the disk") from None
    shown = None if began is None else (began + timedelta(seconds=seconds)).isoformat(timespec="milliseconds")
    return Frame(
        name,
        seconds,
        content_hash(content),
        len(content),
        target.stat().st_mtime_ns,
        picture.width,
        picture.height,
        shown,
    )


def _start_time(told: Mapping[str, str]) -> datetime | None:
    """When a video began: by the clock of the place where that is told, else as ``creation_time`` has it.

    ``creation_time`` ought to be UTC, and many cameras write what their clock shows; ``[clocks]`` mends either.
    """
    for tag in (*_LOCAL_TIME_TAGS, "creation_time"):
        text = told.get(tag)
        # 2024-05-01T10:00:00+0200, and 2024-05-01T10:00:00.000000Z; a year alone is no time.
        if text and re.match(r"\d{4}-\d\d-\d\d[T ]\d\d:\d\d", text):
            try:
                return datetime.fromisoformat(text).replace(tzinfo=None)
            except ValueError:
                continue
    return None


def _camera(told: Mapping[str, str]) -> str | None:
    make, model = (_first(told, tags) for tags in (_MAKE_TAGS, _MODEL_TAGS))
    if make and model.casefold().startswith(make.split()[0].casefold()):
        make = ""
    return " ".join(part for part in (make, model) if part) or None


def _first(told: Mapping[str, str], tags: tuple[str, ...]) -> str:
    return next((" ".join(told[tag].split()) for tag in tags if told.get(tag)), "")
