"""Local evidence as a project asks for it: one species' keypoints, made and compared as its settings say."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict
from functools import cached_property
from pathlib import Path
from typing import Any, cast

from resight.artefacts import key_of
from resight.errors import InputError
from resight.matching.local.evidence import ADAPTIVE, Evidence, LocalMatcher
from resight.matching.local.extractors import Extractor, load_extractor
from resight.matching.local.features import FEATURES_VERSION, ExtractorName, ExtractorSpec, LocalFeatures
from resight.matching.local.geometry import GeometrySpec
from resight.matching.local.lightglue import load_matcher
from resight.matching.local.pairs import PAIRS_VERSION, Numbers, PairStore, compare_pairs, comparing_key
from resight.matching.local.store import FeatureSet, make_features, show
from resight.outlines import Outline
from resight.settings import LocalRules
from resight.types import Annotation, Box


def rules_key(rules: LocalRules, of_species: Mapping[str, LocalRules]) -> str:
    """Key of how all species' keypoints are compared; the networks need not be there for it.

    Args:
        rules: For all species without their own.
        of_species: The species' own.
    """
    versions = FEATURES_VERSION, PAIRS_VERSION, asdict(ADAPTIVE), asdict(GeometrySpec())
    return key_of(asdict(rules), {name: asdict(own) for name, own in sorted(of_species.items())}, *versions)


class LocalComparer:
    """Makes and compares the keypoints of one species.

    Args:
        rules: Of the species.
        folder: The project's folder for local evidence.
        roots: Image roots, name → folder.
        device: What the networks run on.

    Raises:
        InputError: the Python packages of the extra ``local`` are not installed.
    """

    def __init__(self, rules: LocalRules, folder: Path, roots: Mapping[str, Path], *, device: str = "cpu") -> None:
        self.shortlist = rules.shortlist
        self._spec = ExtractorSpec(cast("ExtractorName", rules.extractor), points=rules.points)
        self._folder, self._roots, self._device = folder, dict(roots), device
        self._plan, self._geometry = ADAPTIVE, GeometrySpec()
        try:
            self._extractor: Extractor = load_extractor(self._spec, device=device)
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
    def _matcher(self) -> LocalMatcher:
        network = load_matcher(self._spec.name, device=self._device)
        return LocalMatcher(network, self._plan, geometry=self._geometry)

    def features(self, annotations: Iterable[Annotation], outlines: Mapping[str, Any]) -> FeatureSet:
        """The keypoints of annotations, made where they are not there; see :func:`make_features`."""
        return make_features(annotations, outlines, self._roots, self._folder, self._extractor)

    def features_of_photo(
        self, content: bytes, name: str, box: Box | None, theta_rad: float, outline: Outline | None = None
    ) -> LocalFeatures:
        """The keypoints of one animal in a photo that the catalogue does not know; nothing is kept.

        Raises:
            ImageError: the photo or the box cannot be used.
        """
        animal = show(content, name, box, theta_rad, outline, self._spec)
        return self._extractor.extract(animal.chip, animal.inside)

    def compare_all(
        self, queries: Sequence[str], candidates: Sequence[Sequence[str]], features: FeatureSet
    ) -> dict[str, Numbers]:
        """The numbers of many pairs of annotations, those made before read from disk; see :func:`compare_pairs`."""
        return compare_pairs(queries, candidates, features, self._matcher, PairStore(self._folder, self.comparing))

    def compare(self, query: LocalFeatures, candidates: Sequence[str], features: FeatureSet) -> list[Evidence | None]:
        """One photo against its shortlist, with the matched points; ``None`` for candidates without keypoints."""
        there = [name for name in candidates if name in features.keys]
        found = dict(zip(there, self._matcher.compare(query, there, features.load), strict=True))
        return [found.get(name) for name in candidates]
