"""A project: its folder, and the methods that bear the commands' names and return what the commands print."""

from __future__ import annotations

from resight.project.asked import EmbedReport, ModelMethods
from resight.project.attributed import AttributeMethods
from resight.project.catalogued import Exported
from resight.project.experimented import ExperimentMethods
from resight.project.matched import MatchMethods
from resight.project.raw import RawPhotoMethods

__all__ = ["EmbedReport", "Exported", "Project"]


class Project(ExperimentMethods, RawPhotoMethods, AttributeMethods, ModelMethods, MatchMethods):
    """One project folder. Make one with :func:`resight.init`, open one with :func:`resight.open`."""
