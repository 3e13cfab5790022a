"""The sizes of pictures whose boxes a source gives in fractions: what the source claims, where that holds."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from resight.errors import ImageError, ImageMissing, ImageUnreadable
from resight.images import read_file, upright_size
from resight.parallel import parallel_map

Size = tuple[int, int]
"""Width and height of an upright picture, in pixels."""

OTHER_SIZE = "pictures have another size than the file states; theirs is taken"

_SAMPLE = 20  # of how many pictures the size is compared with the one claimed
_HEAD_BYTES = 128 * 1024  # of a JPEG; they tell its size nearly always


def find_sizes(claims: Mapping[str, Size | None], folder: Path) -> tuple[dict[str, Size | ImageError], str | None]:
    """The size of each picture, or why it is not known.

    A claim is taken without opening the picture, unless one of a sample of them is wrong: then a detector may have
    seen smaller copies, and every picture is asked for its own size; what is claimed serves those that are not there.

    Args:
        claims: By file name, the size that the source states, or ``None``.
        folder: Where the pictures are.

    Returns:
        The sizes by file name, and a line for the notes where claims are not taken.
    """
    claimed = {name: size for name, size in claims.items() if size is not None}
    step = max(1, len(claimed) // _SAMPLE)
    sample = {name: look(folder / name) for name in list(claimed)[::step][:_SAMPLE]}
    is_wrong = any(isinstance(size, tuple) and size != claimed[name] for name, size in sample.items())
    sizes: dict[str, Size | ImageError] = {} if is_wrong else {**claimed}
    wanted = [name for name in claims if name not in sizes]
    looked = parallel_map(lambda name: look(folder / name), wanted, label="sizes of pictures", total=len(wanted))
    for name, size in zip(wanted, looked, strict=True):
        sizes[name] = claimed.get(name, size) if isinstance(size, ImageMissing) else size
    return sizes, OTHER_SIZE if is_wrong else None


def look(path: Path) -> Size | ImageError:
    """The size of a picture from its header, or why it cannot be told."""
    try:
        with path.open("rb") as stream:
            head = stream.read(_HEAD_BYTES)
        if head.startswith(b"\xff\xd8"):
            return upright_size(head, str(path))
    except (OSError, ValueError, ImageUnreadable):
        pass  # the whole file tells more, or why it cannot be read
    try:
        return upright_size(read_file(path), str(path))
    except ImageError as error:
        return error
