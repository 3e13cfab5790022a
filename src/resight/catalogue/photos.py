"""Finding and reading photos: where the catalogue says, else by their content below any image root."""

from __future__ import annotations

import threading
from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from resight.artefacts import content_hash
from resight.errors import ImageChanged, ImageError, ImageMissing, ImageUnreadable
from resight.images import SUFFIXES, ImageFacts, read_file
from resight.types import Annotation


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
    """Reads the photos of annotations and never gives one whose content is not the catalogue's."""

    def __init__(self, roots: Mapping[str, Path]) -> None:
        """Read below these image roots (name → folder)."""
        self._roots = dict(roots)
        self._by_size: dict[int, list[tuple[str, Path]]] | None = None
        self._lock = threading.Lock()

    def read(self, annotation: Annotation) -> Photo:
        """Read the photo of an annotation.

        Raises:
            ImageMissing: it is neither where the catalogue says nor anywhere below the roots.
            ImageChanged: a file is there and its content is another.
            ImageUnreadable: it is empty or cannot be read, and was never read before.
        """
        try:
            path = self._path(annotation)
            content = read_file(path)
        except (ImageMissing, ImageUnreadable) as error:
            moved = self._search(annotation)
            if moved is not None:
                return moved
            if isinstance(error, ImageMissing):
                raise ImageMissing(f"{error}, and none of the same content was found below the image roots") from None
            if annotation.content_hash is not None:
                raise ImageChanged(f"{error}; the catalogue knows another content, put the photo back") from None
            raise
        found = content_hash(content)
        if annotation.content_hash is not None and found != annotation.content_hash:
            moved = self._search(annotation)
            if moved is not None:
                return moved
            raise ImageChanged(
                f"{path}: its content is not what the catalogue knows; put the photo back, or import its dataset again"
            )
        return Photo(content, found, annotation.file_name, path.stat().st_mtime_ns)

    def seems_changed(self, annotation: Annotation) -> bool:
        """Whether the file is there and is not, by size and time, the one the catalogue knows; nothing is read."""
        root = self._roots.get(annotation.image_root)
        if root is None or annotation.image_modified_ns is None:
            return False
        try:
            facts = (root / annotation.image_path).stat()
        except (OSError, ValueError):
            return False  # what is known of it by its content is still right
        return (facts.st_size, facts.st_mtime_ns) != (annotation.image_bytes, annotation.image_modified_ns)

    def _path(self, annotation: Annotation) -> Path:
        root = self._roots.get(annotation.image_root)
        if root is None:
            raise ImageMissing(
                f"{annotation.file_name}: its image root {annotation.image_root!r} is not in resight.toml; "
                "add it under [images.roots]"
            )
        return root / annotation.image_path

    def _search(self, annotation: Annotation) -> Photo | None:
        if annotation.content_hash is None or annotation.image_bytes is None:
            return None
        for root, path in self._files_of_size(annotation.image_bytes):
            try:
                content = read_file(path)
            except ImageError:
                continue  # another photo of that size, and one that cannot be it
            if content_hash(content) == annotation.content_hash:
                relative = path.relative_to(self._roots[root]).as_posix()
                return Photo(
                    content, annotation.content_hash, annotation.file_name, path.stat().st_mtime_ns, (root, relative)
                )
        return None

    def _files_of_size(self, size: int) -> list[tuple[str, Path]]:
        with self._lock:
            if self._by_size is None:
                self._by_size = defaultdict(list)
                for name, folder in self._roots.items():
                    for path in sorted(folder.rglob("*")):
                        if path.suffix.lower() not in SUFFIXES:
                            continue
                        try:
                            self._by_size[path.stat().st_size].append((name, path))
                        except OSError:
                            continue  # gone since it was listed, or not to be reached: it cannot be offered
            return self._by_size.get(size, [])
