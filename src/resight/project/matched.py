"""What a project answers for a photo: match."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from resight.catalogue import store
from resight.catalogue.comparisons import Comparison, record
from resight.catalogue.policy import ViewpointTable, describe, is_allowed
from resight.errors import InputError, UnknownName
from resight.progress import track
from resight.project.calibrated import CalibrationMethods
from resight.project.chosen import Chosen, Models
from resight.project.folder import refuse_picture
from resight.settings import CANONICAL_VIEWPOINTS, Policy
from resight.types import Annotation, Box

if TYPE_CHECKING:
    from resight.calibration.stored import Calibration
    from resight.embedding import EmbeddingSet
    from resight.matching.candidates import CandidateSet, Match, Query, Scored
    from resight.matching.local.comparer import LocalComparer
    from resight.matching.pictures import PairLines, PairPicture
    from resight.matching.queries import QueryPhoto
    from resight.models.embedder import Embedder

HEATED = 5  # candidates of a sheet that show where the network looked; each takes a pass forth and back


@dataclass(frozen=True)
class _Wanted:
    """What the user wants of every answer; see :meth:`MatchMethods.match`."""

    k: int
    include: tuple[str, ...]
    share_of_new: float | None


@dataclass(frozen=True)
class _Asking:
    """What all queries of one call are answered with.

    Attributes:
        species: What they are compared inside.
        policy: Its viewpoint policy.
        gallery: Its annotations.
        chosen: The model, or several as one.
        embeddings: Of the gallery.
        calibration: Of this model and way of comparing; ``None`` where nobody has made one.
        comparer: Compares keypoints; ``None`` where nobody asked for that.
        length: So many candidates, the nearest, are judged, and compared by keypoints.
        unnamed: Annotations of the catalogue that have no species.
        wanted: Of every answer.
    """

    species: str
    policy: Policy
    gallery: Sequence[Annotation]
    chosen: Chosen
    embeddings: EmbeddingSet
    calibration: Calibration | None
    comparer: LocalComparer | None
    length: int
    unnamed: int
    wanted: _Wanted

    @cached_property
    def row_of(self) -> Mapping[str, int]:
        """annotation_id → row of its vector."""
        return self.embeddings.row_of()


class MatchMethods(CalibrationMethods):
    """The method that finds candidates."""

    def match(
        self,
        images: Sequence[str | Path],
        *,
        species: str | None = None,
        viewpoint: str | None = None,
        box: Box | None = None,
        model: Models = None,
        k: int = 20,
        same_animal: bool = False,
        by_encounter: bool = False,
        rerank: str = "none",
        include: Sequence[str] = (),
        share_of_new: float | None = None,
        html: str | Path | None = None,
    ) -> list[Match]:
        """Find candidates for new photos, or for photos of the catalogue.

        Args:
            images: The photos.
            species: What they are compared inside; needed where the catalogue holds several.
            viewpoint: From where the animals are seen.
            box: The animal in the one photo.
            model: Its name; ``None``: the default model; several answer as one, see
                :mod:`resight.ensemble.shares`.
            k: How many annotations to return.
            same_animal: All photos show one animal.
            by_encounter: Photos that the catalogue has in one encounter and under one name are one query.
            rerank: ``local`` compares keypoints with the nearest, and orders them by all the evidence.
            include: Reasons for which annotations are left out, and are not: see
                :data:`resight.matching.candidates.INCLUDABLE`.
            share_of_new: The share of new animals among the queries that is expected; ``None``: as the catalogue
                suggests.
            html: A page to write with query and candidates.

        Raises:
            InputError: a photo that cannot be used, no species where there are several, an unknown viewpoint,
                or several models that nobody has calibrated.
            ArtefactMismatch: a calibration that was made from something else.
        """
        from resight.matching import queries, sheet

        self._require_askable(images, box, k=k, rerank=rerank, include=include, share_of_new=share_of_new, html=html)
        if same_animal and by_encounter:
            raise InputError("--same-animal and --by-encounter both say which photos belong together; give one of them")
        seen = self._viewpoint(viewpoint)
        asking = self._asking(images, species, model, rerank, _Wanted(k, tuple(include), share_of_new))
        photos = queries.find_photos(
            [Path(image) for image in images], queries.Asked(asking.species, seen, box), asking.gallery
        )
        self._require_allowed(photos, asking.species, asking.policy)
        groups = queries.grouped(
            photos, by="animal" if same_animal else "encounter" if by_encounter else "photo", policy=asking.policy
        )
        answers, entries, compared = [], [], []
        embedder = None if html is None else asking.chosen.for_heat()
        by_id = {annotation.annotation_id: annotation for annotation in asking.gallery}
        for group in track(groups, "match", len(groups)):
            query, match, lines = self._answer(group, asking)
            answers.append(match)
            compared += [
                Comparison(key, match.model, match.compared, match.of) for key in sorted(query.own_annotations)
            ]
            if html is not None:
                pairs = self._pictures(embedder, group, match, asking.embeddings, by_id, lines)
                entries.append(sheet.SheetEntry(match, queries.previews(group), pairs))
        if compared:
            with self.database.writing(raises_revision=False) as (connection, _):
                record(connection, compared)
        if html is not None:
            self._write_sheet(Path(html), entries, asking.gallery, asking.chosen.name)
        return answers

    def _require_askable(
        self,
        images: Sequence[str | Path],
        box: Box | None,
        *,
        k: int,
        rerank: str,
        include: Sequence[str],
        share_of_new: float | None,
        html: str | Path | None,
    ) -> None:
        """Refuse what can be seen to be wrong without opening anything.

        Raises:
            InputError: naming the first.
        """
        from resight.matching.candidates import parse_include

        refuse_picture(html)
        self._require_rerank(rerank)
        parse_include(include)
        if share_of_new is not None and not 0 < share_of_new < 1:
            raise InputError(f"share of new animals {share_of_new:g}: expected a number above 0 and below 1")
        if k < 1:
            raise InputError(f"-k {k}: expected at least 1 candidate")
        if not images:
            raise InputError("no photo was given; name at least one")
        if box is not None and len(images) > 1:
            raise InputError(f"--box is of one photo, and {len(images)} were given; match each with its own box")

    def _asking(
        self, images: Sequence[str | Path], species: str | None, model: Models, rerank: str, wanted: _Wanted
    ) -> _Asking:
        """Open everything that the queries are answered with, and embed what has no vector yet."""
        from resight.matching.queries import all_of_one_species

        with self.database.reading() as connection:
            policy_of = store.policies(connection, self.settings)
            unnamed = store.count_unnamed(connection)
        name = all_of_one_species(policy_of, species)
        UnknownName.require("species", [name], policy_of)
        absent = [str(image) for image in images if not Path(image).exists()]
        if absent:  # said before the gallery is embedded, which may take long
            raise InputError(f"{', '.join(absent)}: no such file; name photos that are there")
        comparer = self._comparers([name])[name] if rerank == "local" else None
        gallery = self._annotations([name])
        chosen = self._choose(model)
        calibration = self._calibration(chosen.name, rerank, chosen.passport)
        embeddings = self._embed_chosen(gallery, chosen, {one.annotation_id: name for one in gallery})
        gallery = self._annotations([name])  # once more: embedding fills in what was not known of the photos
        length = self._shortlist(rerank, calibration, name)
        return _Asking(
            name, policy_of[name], gallery, chosen, embeddings, calibration, comparer, length, unnamed, wanted
        )

    def _answer(self, photos: Sequence[QueryPhoto], asking: _Asking) -> tuple[Query, Match, dict[str, PairLines]]:
        """Answer one query: what was asked, its candidates, and the matched points of each."""
        from resight.calibration.evidence import Group
        from resight.matching.answering import answer
        from resight.matching.candidates import as_match, candidate_set, shortlist
        from resight.matching.queries import make_query
        from resight.matching.words import with_reasons

        name, calibration, length, wanted = asking.species, asking.calibration, asking.length, asking.wanted
        query, note = make_query(photos, name, asking.chosen.describe(name), policy=asking.policy)
        among = candidate_set(query, asking.gallery, asking.policy, asking.row_of, wanted.include)
        scored = shortlist(query, among, asking.embeddings, asking.row_of, max(wanted.k, length))
        lines: dict[str, PairLines] = {}
        if asking.comparer is not None:
            decisive = None if calibration is None else calibration.decisive(name)
            first, lines = self._with_local(query, photos, scored[:length], among, asking.comparer, decisive)
            scored = [*first, *scored[length:]]
        judged = answer(
            scored,
            among,
            Group(name, query.viewpoint),
            calibration,
            shortlist=length,
            share_of_new=wanted.share_of_new,
        )
        doubtful = any(one is not None and "viewpoint" in one.proposed for one in query.known_as)
        close = with_reasons(judged.scored[:length], query.viewpoint, query_proposed=doubtful)
        match = as_match(
            query,
            among,
            [*close, *judged.scored[length:]][: wanted.k],
            model=asking.chosen.name,
            note=_with_unnamed(note, asking.unnamed),
            p_new=judged.p_new,
            p_new_ci95=judged.p_new_ci95,
            p_new_note=judged.note,
            reranked=judged.reranked,
        )
        return query, match, lines

    def _viewpoint(self, said: str | None) -> str | None:
        seen = ViewpointTable(self.settings.viewpoint_aliases).canonical(said)
        if said is not None and seen is None:
            raise InputError(f"--viewpoint {said!r}: expected one of {', '.join(CANONICAL_VIEWPOINTS)}")
        return seen

    def _require_allowed(self, photos: Sequence[QueryPhoto], species: str, policy: Policy) -> None:
        for photo in photos:
            if not is_allowed(policy, photo.viewpoint):
                raise InputError(
                    f"{photo.path}: seen from {photo.viewpoint or 'a viewpoint that is not known'}, and the policy of "
                    f"{species} in resight.toml is {describe(policy)}; give another --viewpoint or change it"
                )

    def _with_local(
        self,
        query: Query,
        photos: Sequence[QueryPhoto],
        scored: Sequence[Scored],
        among: CandidateSet,
        comparer: LocalComparer,
        decisive: float | None,
    ) -> tuple[list[Scored], dict[str, PairLines]]:
        """The candidates with their local evidence, and the matched points of each.

        Behind the group in which a candidate's evidence reaches ``decisive`` they have none. One without a name answers
        no question, and what is compared although a reason speaks against it is nothing that the calibration has seen:
        these end no search.
        """
        from resight.images import read_file
        from resight.matching.answering import best_pairs
        from resight.matching.pictures import pair_lines

        if not scored:
            return [], {}
        animals = [one.annotation for one in scored]
        known = [one for one in query.known_as if one is not None]
        with self.database.reading() as connection:
            outlines = store.outlines(connection, [a.annotation_id for a in (*animals, *known)])
        features = comparer.features([*animals, *known], outlines)
        ids = [one.annotation_id for one in animals]
        own = []
        for photo in photos:
            if photo.known_as is not None and photo.known_as.annotation_id in features.keys:
                mine = features.load(photo.known_as.annotation_id)
            else:
                content = read_file(photo.path)
                place = photo.box, photo.theta_rad
                mine = comparer.features_of_photo(content, str(photo.path), *place, species=query.species)
            own.append(mine)
        may_end = [one.individual is not None and one.annotation_id not in among.despite for one in animals]
        best = best_pairs(comparer.compare(own, ids, features, decisive=decisive, may_end=may_end))
        told = [one if pair is None else replace(one, evidence=pair[0]) for one, pair in zip(scored, best, strict=True)]
        lines = {
            key: pair_lines(pair[1], own[pair[0].photo].size, features.load(key).size)
            for key, pair in zip(ids, best, strict=True)
            if pair is not None and key in features.keys
        }
        return told, lines

    def _pictures(
        self,
        embedder: Embedder | None,
        photos: Sequence[QueryPhoto],
        match: Match,
        embeddings: EmbeddingSet,
        by_id: Mapping[str, Annotation],
        lines: Mapping[str, PairLines],
    ) -> dict[str, PairPicture]:
        """What the sheet draws over the query and its candidates: matched points, and where the network looked."""
        from resight.images import cut_chip, read_file
        from resight.matching.heat import looked_at
        from resight.matching.pictures import PairPicture, heat_overlay

        drawn = {
            c.annotation_id: PairPicture(
                lines.get(c.annotation_id), photo=0 if c.evidence is None else c.evidence.photo
            )
            for c in match.candidates
        }
        first = [c.annotation_id for c in match.candidates[:HEATED]]
        if not first or embedder is None or embedder.config.pooling == "backbone":
            return drawn
        size = embedder.config.image_size
        chips = self._chips([by_id[key] for key in first], size)
        photo = photos[0]
        own = cut_chip(read_file(photo.path), str(photo.path), photo.box, photo.theta_rad, size)
        mine = embedder.embed_chips(own[None])
        row_of = embeddings.row_of()
        heats = looked_at(embedder, own, np.asarray(embeddings.vectors[[row_of[key] for key in first]]))
        for key, heat in zip(first, heats, strict=True):
            if key in chips.keys and drawn[key].photo == 0:
                theirs = looked_at(embedder, chips.load([key])[0], mine)[0]
                drawn[key] = replace(drawn[key], query_heat=heat_overlay(heat), candidate_heat=heat_overlay(theirs))
        return drawn

    def _write_sheet(self, target: Path, entries: Sequence[Any], gallery: Sequence[Annotation], model: str) -> None:
        from resight.catalogue.photos import PhotoReader
        from resight.errors import ImageError
        from resight.images import cut_preview
        from resight.matching import sheet

        by_id = {annotation.annotation_id: annotation for annotation in gallery}
        reader = PhotoReader(self.settings.image_roots)

        def preview(annotation_id: str) -> bytes | None:
            annotation = by_id[annotation_id]
            try:
                photo = reader.read(annotation)
                return cut_preview(
                    photo.content, photo.name, annotation.box, annotation.theta_rad, sheet.PREVIEW_PIXELS
                )
            except ImageError:
                return None

        dates = {annotation.annotation_id: annotation.taken_at or "" for annotation in gallery}
        sheet.write_sheet(target, entries, preview, model=model, project=self.folder.name, details=dates)


def _with_unnamed(note: str | None, unnamed: int) -> str | None:
    """A note of a query, and how many annotations nothing is compared with since they have no species."""
    if not unnamed:
        return note
    unsaid = (
        f"{unnamed:,} annotations of the catalogue have no species yet, and nothing is compared with them "
        "(resight status --list species)."
    )
    return unsaid if note is None else f"{note} {unsaid}"
