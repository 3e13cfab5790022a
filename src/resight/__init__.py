"""resight tells individual animals apart in photographs, for many species with one model.

``resight.open(path)`` gives a :class:`resight.project.Project`, whose methods bear the names of the commands.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from resight.version import __version__

if TYPE_CHECKING:
    from pathlib import Path

    from resight.project import Project

__all__ = ["__version__", "init", "open"]


def open(path: str | Path | None = None) -> Project:
    """Open the project at ``path``, or the nearest one above the working directory.

    Raises:
        ProjectNotFound: there is no ``resight.toml`` at ``path`` or above.
    """
    from resight.project import Project

    return Project.open(path)


def init(path: str | Path) -> Project:
    """Make a new project in the folder ``path`` and open it.

    Raises:
        ProjectExists: the folder is a project already.
    """
    from resight.project import Project

    return Project.init(path)
