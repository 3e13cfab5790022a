"""From the catalogue to a training job: which annotations of a split are trained on, and which are held out."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import replace

from resight.catalogue.store import SET_ASIDE, TEST, TRAIN, StoredSplit
from resight.chips import ChipSet
from resight.errors import InputError, UnknownName
from resight.settings import Policy
from resight.splits import make_split
from resight.training.chipset import SkippedChip, TrainingSample
from resight.training.recipe import Recipe
from resight.types import Annotation

logger = logging.getLogger(__name__)


def training_side(
    split: StoredSplit, annotations: Sequence[Annotation], recipe: Recipe, species: Sequence[str] | None
) -> list[Annotation]:
    """The annotations that a recipe trains on, as the split froze them.

    Args:
        split: Frozen.
        annotations: Of the catalogue.
        recipe: Says whether what the split set aside is used.
        species: Only these; ``None``: all.

    Raises:
        UnknownName: a species that the training side lacks.
    """
    wanted = (TRAIN, SET_ASIDE) if recipe.use_set_aside else (TRAIN,)
    chosen = _of_subsets(split, annotations, wanted, species)
    kept = [a for a in chosen if a.filtered is None]
    if len(kept) < len(chosen):
        logger.info(
            "%d training annotations are left out by the quality rules of resight.toml", len(chosen) - len(kept)
        )
    return kept


def test_side(split: StoredSplit, annotations: Sequence[Annotation], species: Sequence[str] | None) -> list[Annotation]:
    """The annotations that a split keeps for testing, as it froze them; see :func:`training_side`."""
    return _of_subsets(split, annotations, (TEST,), species)


def hold_out(annotations: Sequence[Annotation], recipe: Recipe) -> tuple[list[Annotation], list[Annotation]]:
    """Draw a split of its own from the training side: what is trained on, and what is scored after each epoch.

    The paper's protocol once more, within: other encounters on the two sides, half of the scored identities unseen.

    Args:
        annotations: The training side.
        recipe: Its ``validation_share`` and seed are read.

    Raises:
        InputError: nothing is left to score, or to train on.
    """
    if recipe.validation_share is None:
        return list(annotations), []
    inner = make_split(annotations, name="validation", seed=recipe.seed, train_fraction=1.0 - recipe.validation_share)
    subset = {member.annotation_id: member.subset for member in inner.members}
    held_out = [a for a in annotations if subset.get(a.annotation_id) == TEST]
    kept = [a for a in annotations if subset.get(a.annotation_id) in (TRAIN, SET_ASIDE)]
    if not held_out or not kept:
        raise InputError(
            f"a validation_share of {recipe.validation_share:g} leaves {len(kept)} annotations to train on and "
            f"{len(held_out)} to score: name another share, or none"
        )
    unused = len(annotations) - len(kept) - len(held_out)
    if unused:
        logger.info(
            "%d training annotations are left out: their encounters or individuals are among the held out", unused
        )
    return kept, held_out


def samples_of(
    annotations: Sequence[Annotation], chips: ChipSet, policy_of: Mapping[str, Policy]
) -> list[TrainingSample]:
    """One sample for each annotation that has a chip."""
    return [
        TrainingSample(
            annotation_id=a.annotation_id,
            species=a.known_species,
            identity=a.identity or "",
            chip_path=chips.path(a.annotation_id),
            encounter=a.encounter,
            sides_differ=policy_of.get(a.known_species) == "separate",
        )
        for a in annotations
        if a.annotation_id in chips.keys
    ]


def without_chips(chips: ChipSet, annotations: Sequence[Annotation] | None = None) -> list[SkippedChip]:
    """The annotations whose chips could not be cut; only of these, where they are given."""
    wanted = None if annotations is None else {a.annotation_id for a in annotations}
    return [
        SkippedChip(failure.annotation_id, failure.file_name, failure.message)
        for failure in chips.failures
        if wanted is None or failure.annotation_id in wanted
    ]


def _of_subsets(
    split: StoredSplit, annotations: Sequence[Annotation], subsets: Sequence[str], species: Sequence[str] | None
) -> list[Annotation]:
    chosen = [
        replace(
            a,
            species=split.species[a.annotation_id],
            identity=split.identity[a.annotation_id],
            encounter=split.encounter[a.annotation_id],
        )
        for a in annotations
        if split.subset.get(a.annotation_id) in subsets
    ]
    if species is None:
        return chosen
    UnknownName.require(f"species in the {subsets[0]} side of the split", species, {a.known_species for a in chosen})
    return [a for a in chosen if a.species in species]
