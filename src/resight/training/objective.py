"""What training minimises: the margin loss over identities, and what a recipe may add to it."""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from resight.models.heads import SubCenterArcFace, absolute_margins, power_margins, spread_margins
from resight.training.chipset import TrainingClass, TrainingSet
from resight.training.recipe import Recipe


class Objective(nn.Module):
    """The loss of a batch: sub-center ArcFace, plus the species head and the teachers where the recipe has them.

    Args:
        dim: Length of an embedding.
        data: Classes and species.
        recipe: Its margins, centres, scale and weights are read.
    """

    def __init__(self, dim: int, data: TrainingSet, recipe: Recipe) -> None:
        super().__init__()
        self.head = SubCenterArcFace(
            dim, margins_of(data.classes, recipe), centres=centres_of(data.classes, recipe), scale=recipe.scale
        )
        species = int(data.species_labels.max()) + 1
        self.species_head = nn.Linear(dim, species) if recipe.species_weight and species > 1 else None
        self._species_weight, self._distil_weight = recipe.species_weight, recipe.distil_weight

    def forward(
        self,
        embeddings: Tensor,
        truth: Tensor,
        species: Tensor,
        teachers: Sequence[Tensor] = (),
        comparable: Tensor | None = None,
    ) -> tuple[Tensor, Tensor]:
        """Loss of a batch, and how many of its chips are nearest to their own class.

        Args:
            embeddings: (n, dim) float32.
            truth: (n,) int64 classes.
            species: (n,) int64.
            teachers: (n, its dim) float vectors of the same annotations, one tensor a teacher.
            comparable: (n,) bool, chips that the teachers have seen as they are here (not mirrored).

        Returns:
            Two scalars.
        """
        cosines = self.head.cosines(embeddings)
        loss = F.cross_entropy(self.head.add_margin(cosines, truth), truth)
        if self.species_head is not None:
            loss = loss + self._species_weight * F.cross_entropy(self.species_head(embeddings), species)
        if teachers and self._distil_weight:
            loss = loss + self._distil_weight * similarity_distance(embeddings, teachers, comparable)
        return loss, (cosines.argmax(dim=1) == truth).sum()


def similarity_distance(embeddings: Tensor, teachers: Sequence[Tensor], comparable: Tensor | None = None) -> Tensor:
    """Mean squared difference between the batch's cosines and the mean of the teachers'; a scalar.

    Relational distillation (Park et al. 2019, arXiv 1904.05068) with cosines for distances: what an ensemble knows of
    which chips are alike goes over, whatever the teachers' dimensions.

    Args:
        embeddings: (n, dim).
        teachers: (n, its dim), one tensor a teacher.
        comparable: (n,) bool; pairs with another chip are left out. ``None``: all are.
    """
    own = _cosines(embeddings)
    theirs = torch.stack([_cosines(vectors) for vectors in teachers]).mean(dim=0)
    # Pairs are weighted and not picked: an accelerator would have to be asked how many are left.
    pairs = 1.0 - torch.eye(len(own), device=own.device)
    if comparable is not None:
        pairs = pairs * comparable * comparable[:, None]
    return ((own - theirs).square() * pairs).sum() / pairs.sum().clamp(min=1.0)


def margins_of(classes: Sequence[TrainingClass], recipe: Recipe) -> Tensor:
    """The margin of each class, (n_classes,) float32 radians, in the form that the recipe names."""
    counts = [one.annotations for one in classes]
    if recipe.margin == "absolute":
        return absolute_margins(counts)
    if recipe.margin == "spread":
        return spread_margins(counts, low=recipe.margin_low, high=recipe.margin_high, exponent=recipe.margin_exponent)
    return power_margins(counts, a=recipe.margin_a, b=recipe.margin_b, exponent=recipe.margin_exponent)


def centres_of(classes: Sequence[TrainingClass], recipe: Recipe) -> int | list[int]:
    """Centres of every class: the recipe's number, or one for so many annotations begun and at most that number."""
    each = recipe.annotations_per_centre
    if each is None:
        return recipe.centres
    return [min(recipe.centres, -(-one.annotations // each)) for one in classes]


def _cosines(vectors: Tensor) -> Tensor:
    unit = F.normalize(vectors.float())
    return unit @ unit.T
