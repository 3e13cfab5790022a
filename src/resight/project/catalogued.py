"""What a project does with its catalogue: migrate, import, stats, split, export."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from resight import settings as settings_file
from resight.catalogue import intake, store
from resight.catalogue.intake import ImportOptions, ImportReport
from resight.catalogue.sinks.csv_table import write_csv
from resight.catalogue.statistics import Statistics, statistics
from resight.errors import InputError, NotBuiltYet, ResightError, UnknownName
from resight.project.folder import ProjectFolder, checked_name, refuse_picture

if TYPE_CHECKING:
    from resight.splits import Split

SINKS_TO_COME = ("coco", "wildbook", "camtrap-dp", "mark", "secr")


@dataclass(frozen=True)
class Exported:
    """What ``resight export`` wrote."""

    format: str
    path: str
    rows: int


class CatalogueMethods(ProjectFolder):
    """Methods that read and write the catalogue."""

    def migrate(self) -> Path | None:
        """Bring an older catalogue to the newest schema; gives the backup, ``None`` where nothing had to be done."""
        return self.database.migrate()

    def import_(self, path: str | Path, options: ImportOptions | None = None) -> ImportReport:
        """Add a dataset to the catalogue; see :func:`resight.catalogue.intake.import_dataset`.

        Raises:
            ImportRefused: bad rows; nothing was changed, and the error carries the report.
        """
        report = intake.import_dataset(
            Path(path),
            database=self.database,
            settings=self.settings,
            options=options or ImportOptions(),
            reports_folder=self.reports_folder,
        )
        self.settings = settings_file.read(self.folder)
        return report

    def stats(self) -> Statistics:
        """Table 1 of the paper for this catalogue."""
        with self.database.reading() as connection:
            found = store.list_annotations(connection, self.settings)
            return statistics(found, store.policies(connection, self.settings))

    def split(
        self, name: str, *, protocol: str = "paper", seed: int = 0, train_fraction: float | Literal["auto"] = "auto"
    ) -> Split:
        """Draw a split and freeze it under ``name``.

        Raises:
            InputError: the name is taken, or there is nothing to split.
        """
        from resight.splits import make_split

        checked_name("split", name)
        with self.database.reading() as connection:
            store.require_new_split(connection, name)
            found = store.list_annotations(connection, self.settings)
            policy_of = store.policies(connection, self.settings)
            revision = store.revision(connection)
        split = make_split(found, name=name, seed=seed, protocol=protocol, train_fraction=train_fraction)
        if not split.members:
            reasons = "; ".join(f"{count:,}: {reason}" for reason, count in split.left_out.items())
            raise InputError(
                f"of {len(found):,} annotations none can be divided into training and test"
                + (f" ({reasons})" if reasons else "; import a labelled dataset first: resight import PATH")
            )
        report = {key: value for key, value in asdict(split).items() if key != "members"}
        report["catalogue_annotations"] = len(found)
        with self.database.writing() as (connection, now):
            if now != revision + 1:
                raise ResightError("the catalogue changed while the split was drawn; nothing was frozen, try again")
            store.add_split(
                connection,
                name=name,
                protocol=protocol,
                seed=seed,
                catalogue_revision=now,
                policy_of=policy_of,
                members=split.members,
                report=report,
            )
        return split

    def splits(self) -> list[dict[str, Any]]:
        """The frozen splits, oldest first."""
        with self.database.reading() as connection:
            return store.split_names(connection)

    def export(self, format: str, out: str | Path, *, split: str | None = None) -> Exported:
        """Write a dataset or an analysis file.

        Raises:
            NotBuiltYet: a format that is to come.
            UnknownName: no such format or split.
        """
        if format in SINKS_TO_COME:
            raise NotBuiltYet(f"export {format} is not built yet; there is: csv")
        if format != "csv":
            raise UnknownName.among("export format", format, ("csv",))
        refuse_picture(out)
        with self.database.reading() as connection:
            annotations = store.list_annotations(connection, self.settings)
            frozen = None if split is None else store.load_split(connection, split)
        try:
            rows = write_csv(annotations, Path(out), frozen)
        except OSError as error:
            raise InputError(f"{out} cannot be written ({error.strerror}); name another file") from None
        return Exported(format, str(out), rows)
