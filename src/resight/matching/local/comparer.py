"""Local evidence as a project asks for it: one species' keypoints, made and compared as its settings say."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, replace
from functools import cached_property
from pathlib import Path
from typing import Any, cast

from resight.artefacts import key_of
from resight.calibration.stopping import GROUP
from resight.errors import InputError
from resight.matching.local.evidence import ADAPTIVE, Evidence, LocalMatcher, Matcher, MatchPlan
from resight.matching.local.extractors import Extractor, load_extractor
from resight.matching.local.features import FEATURES_VERSION, ExtractorName, ExtractorSpec, LocalFeatures
from resight.matching.local.foreground import FOREGROUND_VERSION, Estimates
from resight.matching.local.geometry import GeometrySpec
from resight.matching.local.lightglue import load_matcher
from resight.matching.local.loftr import LoftrMatcher, load_loftr
from resight.matching.local.pairs import PAIRS_VERSION, Numbers, PairStore, compare_pairs, comparing_key
from resight.matching.local.store import FeatureSet, fit_estimates, make_features, show
from resight.outlines import Outline
from resight.settings import LocalRules
from resight.types import Annotation, Box


def rules_key(rules: LocalRules, of_species: Mapping[str, LocalRules]) -> str:
    """Key of how all species' keypoints are compared; the networks need not be there for it.

    Args:
        rules: For all species without their own.
        of_species: The species' own.
    """
    versions = FEATURES_VERSION, FOREGROUND_VERSION, PAIRS_VERSION, asdict(ADAPTIVE), asdict(GeometrySpec())
    return key_of(_plain(rules), {name: _plain(own) for name, own in sorted(of_species.items())}, *versions)


def _plain(rules: LocalRules) -> dict[str, Any]:
    """As a key takes them; a file of weights, where there is one, by its name, wherever it lies."""
    plain = {name: value for name, value in asdict(rules).items() if value is not None}
    return plain if rules.weights is None else {**plain, "weights": rules.weights.name}


class LocalComparer:
    """Makes and compares the keypoints of one species.

    Args:
        rules: Of the species.
        folder: The project's folder for local evidence.
        roots: Image roots, name → folder.
        device: What the networks run on.

    Raises:
        InputError: the Python packages of the extra ``local`` are not installed, or LoFTR's weights are not there.
    """

    def __init__(self, rules: LocalRules, folder: Path, roots: Mapping[str, Path], *, device: str = "cpu") -> None:
        self.shortlist = rules.shortlist
        self._spec = ExtractorSpec(cast("ExtractorName", rules.extractor), points=rules.points)
        self._folder, self._roots, self._device = folder, dict(roots), device
        self._weights = rules.weights
        self._estimates = Estimates(folder / "foreground", device) if rules.foreground == "estimate" else None
        # LoFTR has but one way through its network.
        self._plan, self._geometry = MatchPlan() if rules.extractor == "loftr" else ADAPTIVE, GeometrySpec()
        self._matchers: dict[float | None, LocalMatcher] = {}
        try:
            self._extractor: Extractor = load_extractor(self._spec, device=device, weights=rules.weights)
        except ImportError as error:
            raise InputError(
                f"local evidence needs Python packages that are not installed ({error.name}); install them with: "
                "pip install 'resight[local]'"
            ) from None

    @cached_property
    def comparing(self) -> str:
        """Key of everything that decides the numbers of a pair."""
        return comparing_key(self._extractor.passport.decides, self._plan, self._geometry)

    @cached_property
    def _network(self) -> Matcher:
        if self._spec.name == "loftr":
            return LoftrMatcher(load_loftr(self._weights)[0], device=self._device)
        return load_matcher(self._spec.name, device=self._device)

    def _matcher(self, decisive: float | None) -> LocalMatcher:
        """What remembers candidates from one query to the next, of each way of stopping."""
        if decisive not in self._matchers:
            # Where it stops, and in what groups, is no part of ``comparing``: a pair has the same numbers all the same.
            plan = self._plan if decisive is None else replace(self._plan, decisive=decisive, group=GROUP)
            self._matchers[decisive] = LocalMatcher(self._network, plan, geometry=self._geometry)
        return self._matchers[decisive]

    def lacks_look(self, species: str) -> bool:
        """Whether it was never tried to tell a species from what is around it, and somebody wants that."""
        return self._estimates is not None and not self._estimates.is_fitted(species)

    def learn_look(self, annotations: Iterable[Annotation]) -> None:
        """Fit where the animals are that have no outline; see :func:`fit_estimates`."""
        if self._estimates is not None:
            fit_estimates(annotations, self._roots, self._spec, self._estimates)

    def features(self, annotations: Iterable[Annotation], outlines: Mapping[str, Any]) -> FeatureSet:
        """The keypoints of annotations, made where they are not there; see :func:`make_features`."""
        return make_features(annotations, outlines, self._roots, self._folder, self._extractor, self._estimates)

    def features_of_photo(
        self,
        content: bytes,
        name: str,
        box: Box | None,
        theta_rad: float,
        outline: Outline | None = None,
        *,
        species: str | None = None,
    ) -> LocalFeatures:
        """The keypoints of one animal in a photo that the catalogue does not know; nothing is kept.

        Without an outline they are kept as those of its species are, by an estimate where it has one.

        Raises:
            ImageError: the photo or the box cannot be used.
        """
        estimate = None if self._estimates is None or species is None else self._estimates.known(species)
        animal = show(content, name, box, theta_rad, outline, self._spec, estimate)
        return self._extractor.extract(animal.chip, animal.inside)

    def compare_all(
        self, queries: Sequence[str], candidates: Sequence[Sequence[str]], features: FeatureSet
    ) -> dict[str, Numbers]:
        """The numbers of many pairs of annotations, those made before read from disk; see :func:`compare_pairs`."""
        return compare_pairs(
            queries, candidates, features, self._matcher(None), PairStore(self._folder, self.comparing)
        )

    def compare(
        self,
        photos: Sequence[LocalFeatures],
        candidates: Sequence[str],
        features: FeatureSet,
        *,
        decisive: float | None = None,
        may_end: Sequence[bool] | None = None,
    ) -> list[list[Evidence | None]]:
        """The photos of one animal against its shortlist, with the matched points.

        Args:
            photos: Their features, at least one.
            candidates: Annotation ids, the nearest by the embedding first.
            features: Of these; in one that has none, nothing is found.
            decisive: The sum of squared confidences of one candidate's matches that ends the search behind its group;
                ``None`` compares all. No photo goes further than one before it had to.
            may_end: For each candidate whether it can be decisive at all; ``None``: each can.

        Returns:
            For each photo, one a candidate; ``None`` for those that it was not compared with.
        """
        matcher = self._matcher(decisive)
        found = []
        looked = len(candidates)
        for photo in photos:
            there = [name if name in features.keys else None for name in candidates[:looked]]
            evidence = matcher.compare(photo, there, features.load, may_end=may_end)
            looked = sum(one is not None for one in evidence)
            found.append(evidence + [None] * (len(candidates) - len(evidence)))
        return found
