"""Every error that resight raises on purpose, as one tree.

::

    ResightError                   exit code 1
    ├── InputError                 exit code 2: the user can mend it
    │   ├── ProjectNotFound
    │   ├── ProjectExists
    │   ├── SettingsError
    │   ├── ImportRefused          carries the report with every problem
    │   ├── UnknownName            a species, split, run or model that is not there
    │   ├── RecipeError
    │   ├── ArtefactMismatch       a file made from something else
    │   ├── CatalogueOutdated      an older schema: ``resight migrate``
    │   └── NotBuiltYet
    ├── CatalogueBusy              another process holds the catalogue for too long
    ├── ImageError                 one image cannot be used; never fatal to a run
    │   ├── ImageMissing
    │   ├── ImageUnreachable
    │   ├── ImageChanged
    │   └── ImageUnreadable
    └── TrainingError              a run that cannot go on: NaN loss, no usable class

A message gives the value, what was expected, and what to do next, on one line.
"""

from __future__ import annotations

from collections.abc import Iterable
from difflib import get_close_matches
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from resight.catalogue.intake import ImportReport


class ResightError(Exception):
    """Something resight could not do; the message is one line for the user."""

    exit_code = 1


class InputError(ResightError):
    """The input is wrong and the user can mend it."""

    exit_code = 2


class ProjectNotFound(InputError):
    """No ``resight.toml`` here or in any folder above."""


class ProjectExists(InputError):
    """The folder is a project already."""


class SettingsError(InputError):
    """``resight.toml`` holds something that cannot be used."""


class ImportRefused(InputError):
    """A dataset was refused whole and nothing was changed.

    Attributes:
        report: The :class:`resight.catalogue.intake.ImportReport` with every problem found.
    """

    def __init__(self, message: str, report: ImportReport) -> None:
        super().__init__(message)
        self.report = report


class UnknownName(InputError):
    """A name that does not exist, with those that do."""

    @classmethod
    def among(cls, kind: str, name: str, known: Iterable[str], remedy: str = "") -> UnknownName:
        """Compose the message: what was asked for, the nearest known names, and the remedy.

        Args:
            kind: What the name stands for, such as ``split``.
            name: The name asked for.
            known: The names that exist.
            remedy: What to do next; one clause.
        """
        names = sorted(known)
        near = get_close_matches(name, names, n=1)
        if near:
            hint = f"did you mean {near[0]!r}?"
        elif names:
            shown = ", ".join(names[:10]) + (f" and {len(names) - 10} more" if len(names) > 10 else "")
            hint = f"there are: {shown}"
        else:
            hint = "there is none yet"
        return cls(f"no {kind} named {name!r}: {hint}" + (f"; {remedy}" if remedy else ""))

    @classmethod
    def require(cls, kind: str, names: Iterable[str], known: Iterable[str]) -> None:
        """Refuse the first of ``names`` that is not known; the message is that of :meth:`among`.

        Raises:
            UnknownName: naming it.
        """
        there = set(known)
        for name in names:
            if name not in there:
                raise cls.among(kind, name, there)


class RecipeError(InputError):
    """A training recipe with an unknown key or an impossible value."""


class ArtefactMismatch(InputError):
    """A computed file was made from something else than what is asked for now."""


class CatalogueOutdated(InputError):
    """The catalogue has the schema of another version of resight."""


class NotBuiltYet(InputError):
    """A command or format that is part of the contract and not there yet."""


class CatalogueBusy(ResightError):
    """Another process kept the catalogue locked for longer than we wait."""


class ImageError(ResightError):
    """One image cannot be used."""


class ImageMissing(ImageError):
    """The file is not where the catalogue says, nor anywhere below the image roots."""


class ImageUnreachable(ImageError):
    """The file is there and cannot be read now: permissions, or a drive that does not answer."""


class ImageChanged(ImageError):
    """The file's content is not what the catalogue knows."""


class ImageUnreadable(ImageError):
    """The file cannot be decoded, or is larger than the limits allow."""


class TrainingError(ResightError):
    """Training cannot go on."""
