"""What a project does with its catalogue: migrate, import, stats, split, export."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from resight import settings as settings_file
from resight.catalogue import intake, sources, store
from resight.catalogue.intake import ImportOptions, ImportReport
from resight.catalogue.raw_photos import PhotoOptions, PhotoReport, import_photos
from resight.catalogue.sinks.csv_table import write_csv
from resight.catalogue.statistics import Statistics, statistics
from resight.errors import ImageError, InputError, NotBuiltYet, ResightError, UnknownName
from resight.project.folder import ProjectFolder, checked_name, refuse_picture

if TYPE_CHECKING:
    from resight.splits import Split
    from resight.types import Annotation

CHECKED_UNASKED = 20_000
"""The most annotations whose photos ``split`` reads unasked: some minutes on two cores at 12 megapixels."""
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

    def import_(
        self, path: str | Path, options: ImportOptions | None = None, *, video_seconds: float = 1.0
    ) -> ImportReport | PhotoReport:
        """Add a dataset or raw photos to the catalogue.

        See :func:`resight.catalogue.intake.import_dataset` and :func:`resight.catalogue.raw_photos.import_photos`.

        Args:
            path: An annotation file, or a folder.
            options: How.
            video_seconds: Of raw videos, one frame every so many seconds.

        Raises:
            ImportRefused: bad rows; nothing was changed, and the error carries the report.
        """
        options = options or ImportOptions()
        found = sources.find(Path(path), options.format)
        if found.format == "photos":
            report: ImportReport | PhotoReport = import_photos(
                found.path,
                database=self.database,
                settings=self.settings,
                options=PhotoOptions(options.species, options.source, options.dry_run, video_seconds),
                reports_folder=self.reports_folder,
            )
            if found.why:
                report = replace(report, notes=(found.why, *report.notes))
        else:
            report = intake.import_dataset(
                found,
                database=self.database,
                settings=self.settings,
                options=options,
                reports_folder=self.reports_folder,
            )
        self.settings = settings_file.read(self.folder)
        return report

    def stats(self) -> Statistics:
        """Table 1 of the paper for this catalogue."""
        with self.database.reading() as connection:
            found = store.list_annotations(connection, self.settings, unnamed=True)
            return statistics(found, store.policies(connection, self.settings))

    def split(
        self,
        name: str,
        *,
        protocol: str = "paper",
        seed: int = 0,
        train_fraction: float | Literal["auto"] = "auto",
        date: str | None = None,
        from_file: str | Path | None = None,
        check_duplicates: bool | None = None,
    ) -> Split:
        """Draw a split, or read one, and freeze it under ``name``.

        Args:
            name: Of the split.
            protocol: See :func:`resight.splits.make_split`.
            seed: The same seed gives the same split of the same annotations.
            train_fraction: See :func:`resight.splits.make_split`.
            date: The first day of test, with the protocol ``time``.
            from_file: A table that has the split; nothing is drawn then. See :func:`resight.splits.read_split`.
            check_duplicates: Whether photos of different encounters are looked at for being almost the same picture;
                ``None`` does so for at most ``CHECKED_UNASKED`` annotations.

        Raises:
            InputError: the name is taken, there is nothing to split, or options that exclude each other.
        """
        from resight.splits import make_split, read_split, to_compare, with_near_duplicates

        checked_name("split", name)
        if from_file is not None and (protocol, train_fraction, date) != ("paper", "auto", None):
            raise InputError(f"{from_file} says what is trained on; leave protocol, train fraction and date out")
        with self.database.reading() as connection:
            store.require_new_split(connection, name)
            found = store.list_annotations(connection, self.settings)
            policy_of = store.policies(connection, self.settings)
            revision = store.revision(connection)
        if from_file is not None:
            split = read_split(found, Path(from_file), name=name, seed=seed)
        else:
            split = make_split(found, name=name, seed=seed, protocol=protocol, train_fraction=train_fraction, date=date)
        if not split.members:
            reasons = "; ".join(f"{count:,}: {reason}" for reason, count in split.left_out.items())
            raise InputError(
                f"of {len(found):,} annotations none can be divided into training and test"
                + (f" ({reasons})" if reasons else "; import a labelled dataset first: resight import PATH")
            )
        wanted = set() if check_duplicates is False else to_compare(split.members)
        if check_duplicates is None and len(wanted) > CHECKED_UNASKED:
            unchecked = (
                f"nobody looked whether photos of different encounters are almost the same: {len(wanted):,} photos are "
                f"more than the {CHECKED_UNASKED:,} that are looked at unasked; ask for it with --check-duplicates"
            )
            split = replace(split, warnings=(*split.warnings, unchecked))
        elif check_duplicates is not False:
            split = with_near_duplicates(split, self._hashes(one for one in found if one.annotation_id in wanted))
        report = {key: value for key, value in asdict(split).items() if key != "members"}
        report["catalogue_annotations"] = len(found)
        with self.database.writing() as (connection, now):
            if now != revision + 1:
                raise ResightError("the catalogue changed while the split was drawn; nothing was frozen, try again")
            store.add_split(
                connection,
                name=name,
                protocol=split.protocol,
                seed=split.seed,
                catalogue_revision=now,
                policy_of=policy_of,
                members=split.members,
                report=report,
            )
        return split

    def _hashes(self, annotations: Iterable[Annotation]) -> dict[str, int]:
        """annotation_id → hash of the picture inside its box; one that cannot be read has none."""
        from resight.catalogue.photos import PhotoReader
        from resight.images import perceptual_hash
        from resight.parallel import parallel_map

        of_image: dict[int, list[Annotation]] = defaultdict(list)
        for annotation in annotations:
            of_image[annotation.image_id].append(annotation)
        reader = PhotoReader(self.settings.image_roots)

        def hashed(shown: list[Annotation]) -> dict[str, int]:
            found: dict[str, int] = {}
            with suppress(ImageError):
                photo = reader.read(shown[0])
                for one in shown:
                    with suppress(ImageError):
                        key = perceptual_hash(photo.content, photo.name, one.box, one.theta_rad)
                        found[one.annotation_id] = key
            return found

        images = list(of_image.values())
        parts = parallel_map(hashed, images, label="near-duplicates", total=len(images))
        return {key: value for part in parts for key, value in part.items()}

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
            annotations = store.list_annotations(connection, self.settings, unnamed=True)
            frozen = None if split is None else store.load_split(connection, split)
        try:
            rows = write_csv(annotations, Path(out), frozen)
        except OSError as error:
            raise InputError(f"{out} cannot be written ({error.strerror}); name another file") from None
        return Exported(format, str(out), rows)
