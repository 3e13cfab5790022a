"""Sub-center ArcFace with a margin per class: the training head that is thrown away afterwards.

Sources: ArcFace, Deng et al. (arXiv 1801.07698), equation 3; sub-centres, Deng et al. 2020 (ECCV, "Sub-center
ArcFace"), equation 3; dynamic margins, Ha et al. 2020 (arXiv 2010.05350), equation 3.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from resight.errors import InputError

# 1 - cos² is held above this: the square root's gradient is infinite at 0, and float32 resolves 1 - cos² to 1e-7.
_SMALLEST_SINE_SQUARED = 1e-7


def power_margins(counts: Sequence[int], *, a: float, b: float, exponent: float) -> Tensor:
    """Margins that fall with a class's size as a power: ``m(n) = a * n ** -exponent + b``.

    Ha et al. 2020, equation 3, whose own values are a = 0.5, b = 0.05, exponent = 1/4.

    Args:
        counts: Annotations of each class, all at least 1.
        a: Height above the floor for a class with one annotation.
        b: Floor for large classes.
        exponent: The λ of the paper.

    Returns:
        (n_classes,) float32, radians.

    Raises:
        InputError: a count below 1.
    """
    return (a * _checked_counts(counts).pow(-exponent) + b).float()


def spread_margins(counts: Sequence[int], *, low: float = 0.2, high: float = 0.5, exponent: float = 0.25) -> Tensor:
    """Margins spread over a given range: the largest class gets ``low``, the smallest ``high``.

    ``t = n ** -exponent; m = low + (high - low) * (t - t_min) / (t_max - t_min)``, the form in the public code of
    MiewID. It is the power form with a and b chosen to meet the range. Where all classes are of one size, the
    fraction is 0 / 0; each class is then a smallest one and gets ``high``.

    Args:
        counts: Annotations of each class, all at least 1.
        low: Margin of the largest class, radians.
        high: Margin of the smallest class, radians.
        exponent: The λ of the power form.

    Returns:
        (n_classes,) float32, radians.

    Raises:
        InputError: a count below 1.
    """
    t = _checked_counts(counts).pow(-exponent)
    span = t.max() - t.min()
    if span == 0:
        return torch.full_like(t, high, dtype=torch.float32)
    return (low + (high - low) * (t - t.min()) / span).float()


def absolute_margins(counts: Sequence[int]) -> Tensor:
    """Margins that depend on a class's size alone, not on the other classes: ``0.271 * n ** -0.364 + 0.05``.

    The power form with the values of the Happywhale competition's winning solution.

    Args:
        counts: Annotations of each class, all at least 1.

    Returns:
        (n_classes,) float32, radians.

    Raises:
        InputError: a count below 1.
    """
    return power_margins(counts, a=0.271, b=0.05, exponent=0.364)


class SubCenterArcFace(nn.Module):
    """Cosine logits with an angular margin on the true class.

    The cosine to a class is the largest over its centres. On the true class the angle θ is widened by the class's
    margin m: ``cos(θ + m) = cos θ cos m - sin θ sin m``; where ``cos θ <= cos(π - m)``, so that θ + m would pass π
    and the cosine would rise again, ``cos θ - m sin(π - m)`` takes its place. All logits are multiplied by ``scale``.

    Everything here is float32, outside autocast: half precision cannot hold ``scale`` times the small differences
    between cosines.

    Args:
        dim: Length of an embedding.
        margins: (n_classes,) radians, any float type, each in [0, π).
        centres: Centres of each class (the K of the paper), or of every class in turn.
        scale: The s of the paper.

    Raises:
        InputError: fewer than two classes, or a margin, a number of centres or a scale that is impossible.
    """

    margins: Tensor
    absent: Tensor | None  # (n_classes, centres) bool: places that a class with fewer centres leaves empty

    def __init__(self, dim: int, margins: Tensor, *, centres: int | Sequence[int], scale: float) -> None:
        super().__init__()
        of_class = [centres] * len(margins) if isinstance(centres, int) else list(centres)
        if margins.ndim != 1 or len(margins) < 2:
            raise InputError(f"margins have shape {tuple(margins.shape)}: expected one a class, two classes or more")
        possible = (margins >= 0) & (margins < math.pi)  # NaN fails both comparisons
        if not bool(possible.all()):
            raise InputError(f"a margin is {margins[~possible][0].item()}: expected radians from 0 to below π")
        if len(of_class) != len(margins) or min(of_class) < 1 or not scale > 0:
            raise InputError(
                f"centres is {centres} and scale is {scale}: expected at least 1 (or one a class) and above 0"
            )
        self.centres = max(of_class)
        self.scale = scale
        self.weight = nn.Parameter(torch.empty(len(margins) * self.centres, dim, dtype=torch.float32))
        nn.init.xavier_uniform_(self.weight)
        # float32: a float64 margin would turn all logits into float64.
        self.register_buffer("margins", margins.detach().to(torch.float32).clone())
        fewer = min(of_class) < self.centres
        places = torch.arange(self.centres).unsqueeze(0) >= torch.tensor(of_class).unsqueeze(1)
        self.register_buffer("absent", places if fewer else None, persistent=False)

    @property
    def n_classes(self) -> int:
        """How many classes there are."""
        return len(self.margins)

    def cosines(self, embeddings: Tensor) -> Tensor:
        """Cosine of each embedding to each class, its nearest centre counting.

        Args:
            embeddings: (n, dim), any float type, not normalised.

        Returns:
            (n, n_classes) float32.
        """
        with torch.autocast(embeddings.device.type, enabled=False):
            all_centres = F.linear(F.normalize(embeddings.float()), F.normalize(self.weight.float()))
            of_class = all_centres.view(len(embeddings), -1, self.centres)
            if self.absent is not None:
                of_class = of_class.masked_fill(self.absent, -2.0)  # below any cosine
            return of_class.amax(dim=2)

    def add_margin(self, cosines: Tensor, labels: Tensor) -> Tensor:
        """Widen the angle to the true class and scale.

        Args:
            cosines: (n, n_classes) float32.
            labels: (n,) int64, each from 0 to n_classes - 1.

        Returns:
            (n, n_classes) float32 logits for cross-entropy.

        Raises:
            InputError: a label on the CPU that is outside the classes; -1 is no "unknown" here. An accelerator is not
                waited for to look at its labels: there torch stops the process.
        """
        self._check_labels(labels)
        with torch.autocast(cosines.device.type, enabled=False):
            column = labels.unsqueeze(1)
            cos = cosines.float().gather(1, column)  # (n, 1)
            m = self.margins.float()[labels].unsqueeze(1)
            sin = (1.0 - cos.square()).clamp(min=_SMALLEST_SINE_SQUARED).sqrt()
            widened = cos * m.cos() - sin * m.sin()
            past_pi = cos - m * (math.pi - m).sin()
            true_class = torch.where(cos > (math.pi - m).cos(), widened, past_pi)
            return cosines.float().scatter(1, column, true_class) * self.scale

    def forward(self, embeddings: Tensor, labels: Tensor) -> Tensor:
        """Logits (n, n_classes) float32 of embeddings (n, dim) with labels (n,) int64; see ``add_margin``."""
        return self.add_margin(self.cosines(embeddings), labels)

    def _check_labels(self, labels: Tensor) -> None:
        if labels.device.type != "cpu":
            return
        outside = (labels < 0) | (labels >= self.n_classes)
        if bool(outside.any()):
            position = int(outside.nonzero()[0, 0])
            raise InputError(
                f"label {int(labels[position])} at position {position} is outside 0 to {self.n_classes - 1}: "
                "leave annotations of unknown individuals out of training"
            )


def _checked_counts(counts: Sequence[int]) -> Tensor:
    values = torch.tensor(list(counts), dtype=torch.float64)
    if len(values) == 0 or bool((values < 1).any()):
        smallest = int(values.min()) if len(values) else None
        raise InputError(f"the smallest class count is {smallest}: every class needs at least one annotation")
    return values
