"""What a project does between raw photos and annotations: detect, measure, attributes, and the funnel."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from resight.catalogue import boxing
from resight.project.catalogued import CatalogueMethods

if TYPE_CHECKING:
    from resight.catalogue.funnel import Camera, FellOut, Funnel
    from resight.detection.run import DetectReport
    from resight.quality import QualityReport
    from resight.types import Box

FILTERED = "filtered"  # stands beside the steps of the funnel: all that a quality rule catches, wherever they got to


class RawPhotoMethods(CatalogueMethods):
    """Methods that find animals in photos and say what is not known of them yet."""

    def detect(
        self,
        detector: str,
        *,
        threshold: float | None = None,
        source: str | None = None,
        species: str | None = None,
        anew: bool = False,
        dry_run: bool = False,
    ) -> DetectReport:
        """Look for animals in raw photos; see :func:`resight.detection.run.detect`.

        Args:
            detector: ``json:FILE``, ``onnx:FILE``, ``megadetector:MODEL`` or ``whole-image``.
            threshold: The confidence from which an animal counts; ``None`` takes the usual one.
            source: Only photos of this source.
            species: Of the animals that the detector does not name.
            anew: Also photos in which a detector has looked already.
            dry_run: Do everything but write.
        """
        from resight.detection.choosing import parse_detector
        from resight.detection.run import DEFAULT_THRESHOLD, detect

        return detect(
            database=self.database,
            settings=self.settings,
            detector=parse_detector(detector),
            threshold=DEFAULT_THRESHOLD if threshold is None else threshold,
            source=source,
            species=species,
            anew=anew,
            dry_run=dry_run,
        )

    def add_box(self, image: str, box: Box, *, species: str | None = None) -> str:
        """Draw a box by hand; gives the annotation's id. See :func:`resight.catalogue.boxing.add_box`."""
        return self.edit_boxes([(image, box)], (), species=species)[0]

    def remove_box(self, annotation_id: str) -> None:
        """Take back a box that a person drew or a detector found, while nothing depends on it."""
        self.edit_boxes((), [annotation_id])

    def edit_boxes(
        self, drawn: Sequence[tuple[str, Box]], removed: Sequence[str], *, species: str | None = None
    ) -> list[str]:
        """Draw boxes by hand and take others back, all of it or nothing; gives the ids of those that were drawn.

        Args:
            drawn: Photo and box, as for :meth:`add_box`.
            removed: Ids, as for :meth:`remove_box`.
            species: Of the animals in the drawn boxes.
        """
        with self.database.writing() as (connection, _):
            added = [boxing.add_box(connection, self.settings, photo, box, species) for photo, box in drawn]
            for annotation_id in removed:
                boxing.remove_box(connection, annotation_id)
            return added

    def measure(self, *, species: Sequence[str] | None = None, anew: bool = False) -> QualityReport:
        """Measure the quality of annotations; see :func:`resight.quality.measure_catalogue`."""
        from resight.quality import measure_catalogue

        return measure_catalogue(self.database, self.settings, species=species, anew=anew)

    def status(self, *, model: str | None = None) -> Funnel:
        """The funnel from photos to identities; see :func:`resight.catalogue.funnel.funnel`.

        Args:
            model: Whose vectors and comparisons count; ``None`` takes the default, as other commands do.
        """
        from resight.catalogue.funnel import funnel

        name, embedded = self._embedded(model)
        with self.database.reading() as connection:
            return funnel(connection, self.settings, model=name, embedded=embedded)

    def fell_out(self, step: str, *, model: str | None = None) -> Iterator[FellOut]:
        """Who fell out of the funnel at a step, and why; ``filtered`` are all that a quality rule leaves out."""
        from resight.catalogue.funnel import filtered, who_fell_out

        if step == FILTERED:
            with self.database.reading() as connection:
                yield from filtered(connection, self.settings)
            return
        name, embedded = self._embedded(model)
        with self.database.reading() as connection:
            yield from who_fell_out(connection, self.settings, step, model=name, embedded=embedded)

    def cameras(self) -> list[Camera]:
        """The cameras of raw photos, and what their clocks say."""
        from resight.catalogue.funnel import cameras

        with self.database.reading() as connection:
            return cameras(connection)

    def _embedded(self, model: str | None) -> tuple[str, set[str]]:
        """The model's name, and the annotations that it has vectors of."""
        from resight.embedding import ROWS, load

        name = self._find_model(model).name
        folder = self.folder / "embeddings" / name
        if not (folder / ROWS).is_file():
            return name, set()
        return name, set(load(folder, None, name=name).annotation_ids)
