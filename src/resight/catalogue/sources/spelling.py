"""File names whose capitals differ from those on the disk: ``IMG_1.JPG`` for ``img_1.jpg``."""

from __future__ import annotations

from collections import defaultdict
from pathlib import Path


class Spelling:
    """How the files below one folder are spelt there; each folder is listed once, when it is first asked for."""

    def __init__(self, root: Path) -> None:
        self._root = root
        self._listed: dict[str, tuple[frozenset[str], dict[str, list[str]]]] = {}

    def of(self, path: str) -> str:
        """A path below the folder as the disk spells it; as given where it is there so, or not, or in several ways."""
        found = ""
        for part in path.split("/"):
            exact, folded = self._list(found)
            if part not in exact and len(folded.get(part.casefold(), ())) == 1:
                part = folded[part.casefold()][0]
            found = f"{found}/{part}" if found else part
        return found

    def _list(self, folder: str) -> tuple[frozenset[str], dict[str, list[str]]]:
        if folder not in self._listed:
            try:
                names = [path.name for path in (self._root / folder).iterdir()]
            except OSError:  # not there, or a file
                names = []
            folded = defaultdict(list)
            for name in names:
                folded[name.casefold()].append(name)
            self._listed[folder] = frozenset(names), dict(folded)
        return self._listed[folder]
