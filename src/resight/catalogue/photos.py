"""Finding and reading photos: where the catalogue says, else by their content below any image root."""

from __future__ import annotations

import threading
from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from resight.artefacts import content_hash
from resight.catalogue.card_files import is_hidden, is_text
from resight.errors import ImageChanged, ImageError, ImageMissing, ImageUnreadable
from resight.images import SUFFIXES, ImageFacts, read_file


class Located(Protocol):
    """Where a photo should lie and what is known of it; an :class:`resight.types.Annotation` is one."""

    @property
    def file_name(self) -> str:
        """How messages call it."""
        ...

    @property
    def image_root(self) -> str:
        """Name of the image root."""
        ...

    @property
    def image_path(self) -> str:
        """Path below the root."""
        ...

    @property
    def content_hash(self) -> str | None:
        """SHA-256 of the file, where it was read before."""
        ...

    @property
    def image_bytes(self) -> int | None:
        """Size of the file, likewise."""
        ...

    @property
    def image_modified_ns(self) -> int | None:
        """When the file was last written, likewise."""
        ...


@dataclass(frozen=True)
class Photo:
    """A photo's bytes and where they were found; ``moved_to`` is (root, path) where that is not where it was."""

    content: bytes
    content_hash: str
    name: str
    modified_ns: int
    moved_to: tuple[str, str] | None = None


@dataclass(frozen=True)
class FoundImage:
    """What reading a photo told that the catalogue did not know: its facts, its time, or where it lies now."""

    image_id: int
    byte_size: int
    modified_ns: int
    facts: ImageFacts
    moved_to: tuple[str, str] | None


class PhotoReader:
    """Reads photos and never gives one whose content is not the catalogue's."""

    def __init__(self, roots: Mapping[str, Path]) -> None:
        """Read below these image roots (name → folder)."""
        self._roots = dict(roots)
        self._by_size: dict[int, list[tuple[str, Path]]] | None = None
        self._lock = threading.Lock()

    def read(self, located: Located) -> Photo:
        """Read a photo.

        Raises:
            ImageMissing: it is neither where the catalogue says nor anywhere below the roots.
            ImageChanged: a file is there and its content is another.
            ImageUnreadable: it is empty or cannot be read, and was never read before.
        """
        try:
            path = self._path(located)
            content = read_file(path)
        except (ImageMissing, ImageUnreadable) as error:
            moved = self._search(located)
            if moved is not None:
                return moved
            if isinstance(error, ImageMissing):
                raise ImageMissing(f"{error}, and none of the same content was found below the image roots") from None
            if located.content_hash is not None:
                raise ImageChanged(f"{error}; the catalogue knows another content, put the photo back") from None
            raise
        found = content_hash(content)
        if located.content_hash is not None and found != located.content_hash:
            moved = self._search(located)
            if moved is not None:
                return moved
            raise ImageChanged(
                f"{path}: its content is not what the catalogue knows; put the photo back, or import its dataset again"
            )
        return Photo(content, found, located.file_name, path.stat().st_mtime_ns)

    def seems_changed(self, located: Located) -> bool:
        """Whether the file is there and is not, by size and time, the one the catalogue knows; nothing is read."""
        root = self._roots.get(located.image_root)
        if root is None or located.image_modified_ns is None:
            return False
        try:
            facts = (root / located.image_path).stat()
        except (OSError, ValueError):
            return False  # what is known of it by its content is still right
        return (facts.st_size, facts.st_mtime_ns) != (located.image_bytes, located.image_modified_ns)

    def _path(self, located: Located) -> Path:
        root = self._roots.get(located.image_root)
        if root is None:
            raise ImageMissing(
                f"{located.file_name}: its image root {located.image_root!r} is not in resight.toml; "
                "add it under [images.roots]"
            )
        return root / located.image_path

    def _search(self, located: Located) -> Photo | None:
        if located.content_hash is None or located.image_bytes is None:
            return None
        for root, path in self._files_of_size(located.image_bytes):
            try:
                content = read_file(path)
            except ImageError:
                continue  # another photo of that size, and one that cannot be it
            if content_hash(content) == located.content_hash:
                relative = path.relative_to(self._roots[root]).as_posix()
                return Photo(
                    content, located.content_hash, located.file_name, path.stat().st_mtime_ns, (root, relative)
                )
        return None

    def _files_of_size(self, size: int) -> list[tuple[str, Path]]:
        with self._lock:
            if self._by_size is None:
                self._by_size = defaultdict(list)
                for name, folder in self._roots.items():
                    for path in sorted(folder.rglob("*")):
                        if path.suffix.lower() not in SUFFIXES or not _is_offered(path.relative_to(folder)):
                            continue
                        try:
                            self._by_size[path.stat().st_size].append((name, path))
                        except OSError:
                            continue  # gone since it was listed, or not to be reached: it cannot be offered
            return self._by_size.get(size, [])


def _is_offered(path: Path) -> bool:
    """Whether a photo may be said to lie at a path: not where systems keep what was thrown away, nor out of text."""
    return is_text(path.as_posix()) and not any(map(is_hidden, path.parts))
