"""LightGlue (Lindenberger et al., ICCV 2023) on batches of pairs that share one photo, with kornia's weights.

It computes what kornia's module does, arranged for one query against many candidates:

- What the first self-attention makes of a photo does not depend on the other one, so it is made once
  (:meth:`LightGlue.prepare`), for a query and for each candidate that comes again.
- Pairs go through in batches, in which all candidates have equally many points, so that nothing is padded or masked.
- After some layers only the points most likely to have a partner go on (:class:`Effort`): a fixed share of them,
  where the authors' pruning keeps another number in each pair and so takes pairs one at a time.
- Linear maps that follow each other are one product, and the two of a cross-attention share their similarities.
- bfloat16 on CPUs that have instructions for it, float16 on a GPU.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from resight.errors import InputError
from resight.matching.local.features import ExtractorName, LocalFeatures
from resight.matching.local.weights import MATCHERS, fill, find_weights, read_weights

THRESHOLD = 0.1  # of a match's confidence, as the authors set it
CPU_BATCH = 4  # pairs at once: their activations stay in the cache
GPU_BATCH = 32
STEP = 32  # the points of a photo are cut to a multiple of it, so that many pairs go into one batch

Weight = tuple[Tensor, Tensor]


@dataclass(frozen=True)
class Effort:
    """How much of the network a pair goes through.

    Attributes:
        layers: How many; ``None``: all.
        keep: (layers, share): after so many layers, this share of the points that each photo came with goes on.
    """

    layers: int | None = None
    keep: tuple[tuple[int, float], ...] = ()

    def __post_init__(self) -> None:
        """Check the numbers."""
        if self.layers is not None and self.layers < 1:
            raise InputError(f"layers {self.layers}: expected 1 or more, or None for all")
        if any(after < 1 or not 0 < share <= 1 for after, share in self.keep):
            raise InputError(f"keep {self.keep}: expected pairs of 1 or more layers and a share above 0, at most 1")


WHOLE = Effort()


@dataclass(frozen=True, eq=False)
class PairMatches:
    """Points of two photos that show the same mark.

    Attributes:
        query_points: (m,) int64, which of the query's keypoints.
        candidate_points: (m,) int64, which of the candidate's.
        confidences: (m,) float32, from :data:`THRESHOLD` to 1.
    """

    query_points: NDArray[np.int64]
    candidate_points: NDArray[np.int64]
    confidences: NDArray[np.float32]

    def __len__(self) -> int:
        """How many there are."""
        return len(self.confidences)


@dataclass(frozen=True, eq=False)
class Prepared:
    """One photo after the first self-attention.

    Attributes:
        points: (n, width) in the network's precision.
        turns: (2, 1, n, half a head) cosines and sines of the keypoints' places, in the same precision.
    """

    points: Tensor
    turns: Tensor

    def __len__(self) -> int:
        """How many points there are."""
        return len(self.points)


@dataclass(frozen=True)
class _Feed:
    """The part of a block after its attention: two linear maps with a norm between them."""

    inner: Weight
    norm: Weight
    outer: Weight


@dataclass(frozen=True)
class _Layer:
    """``self_in`` makes queries, keys and values of all heads; ``cross_in`` similarities' sides and values."""

    self_in: Weight
    self_out: _Feed
    cross_in: Weight
    cross_out: _Feed


@dataclass(frozen=True)
class _Head:
    """``project`` gives the sides of the similarity, ``partner`` how likely a point has a partner (a logit)."""

    project: Weight
    partner: Weight


class LightGlue:
    """Matches the points of photos.

    Args:
        network: kornia's ``LightGlue``, filled; features with scales, orientations or frames are not taken.
        device: Such as ``cpu`` or ``cuda``.
        precision: Of the products; ``None`` takes the fastest that the device has instructions for.
    """

    def __init__(self, network: Any, *, device: str = "cpu", precision: torch.dtype | None = None) -> None:
        settings = network.conf
        if settings.add_scale_ori or settings.add_laf:
            raise InputError(f"matcher {settings.weights!r} takes scales and orientations: expected keypoints alone")
        self._device = torch.device(device)
        self._precision = precision or fastest_precision(self._device)
        self._heads, self._width = settings.num_heads, settings.descriptor_dim
        self._head_width = self._width // self._heads
        self._input_width = settings.input_dim
        self._batch = CPU_BATCH if self._device.type == "cpu" else GPU_BATCH
        # Product by product on a CPU: torch's fused attention gains nothing from bfloat16 there.
        self._fused = self._device.type != "cpu" or self._precision == torch.float32
        with torch.no_grad():
            self._input = None if settings.input_dim == self._width else self._weight(network.input_proj)
            self._frequencies = network.posenc.Wr.weight.detach().float().to(self._device)  # (half a head, 2)
            self._layers = [self._fold(layer) for layer in network.transformers]
            self._ends = [self._fold_end(end) for end in network.log_assignment]

    @property
    def layers(self) -> int:
        """How many the network has."""
        return len(self._layers)

    def prepare(self, features: LocalFeatures) -> Prepared:
        """Do for one photo what does not depend on the other; its points are cut to a multiple of :data:`STEP`.

        Raises:
            InputError: descriptors of another extractor.
        """
        count = len(features) // STEP * STEP or len(features)
        kept = features.best(count)
        if kept.descriptors.shape[1] != self._input_width:
            raise InputError(
                f"descriptors of {kept.descriptors.shape[1]} numbers: the matcher takes {self._input_width}; "
                "take the matcher of the extractor that made them"
            )
        with torch.inference_mode():
            descriptors = torch.from_numpy(kept.descriptors).to(self._device, self._precision)
            keypoints = torch.from_numpy(kept.keypoints).to(self._device)
            size = torch.tensor(kept.size, dtype=torch.float32, device=self._device)
            angles = ((keypoints - size / 2) / (size.max() / 2)) @ self._frequencies.T
            turns = torch.stack([angles.cos(), angles.sin()])[:, None].to(self._precision)
            points = descriptors if self._input is None else F.linear(descriptors, *self._input)
            if count:
                points = self._look_within(points[None], turns[:, None], self._layers[0])[0]
        return Prepared(points, turns)

    def match(self, query: Prepared, candidates: Sequence[Prepared], effort: Effort = WHOLE) -> list[PairMatches]:
        """Match one photo with others.

        Args:
            query: The photo.
            candidates: The others, in any order; a photo without points has no matches.
            effort: How much of the network to go through.

        Returns:
            One a candidate.
        """
        found: dict[int, PairMatches] = {}
        by_length: dict[int, list[int]] = {}
        for row, candidate in enumerate(candidates):
            if len(query) and len(candidate):
                by_length.setdefault(len(candidate), []).append(row)
            else:
                found[row] = PairMatches(np.empty(0, np.int64), np.empty(0, np.int64), np.empty(0, np.float32))
        with torch.inference_mode():
            for rows in by_length.values():
                for start in range(0, len(rows), self._batch):
                    batch = rows[start : start + self._batch]
                    matched = self._match_batch(query, [candidates[row] for row in batch], effort)
                    found.update(zip(batch, matched, strict=True))
        return [found[row] for row in range(len(candidates))]

    def _match_batch(self, query: Prepared, candidates: Sequence[Prepared], effort: Effort) -> list[PairMatches]:
        count, last = len(candidates), min(effort.layers or self.layers, self.layers)
        sides = [query.points.expand(count, -1, -1), torch.stack([one.points for one in candidates])]
        turns = [query.turns[:, None].expand(-1, count, -1, -1, -1), torch.stack([one.turns for one in candidates], 1)]
        rows = [torch.arange(side.shape[1], device=self._device).expand(count, -1) for side in sides]
        came = [side.shape[1] for side in sides]
        shares = dict(effort.keep)
        for number, layer in enumerate(self._layers[:last], start=1):
            if number > 1:
                sides = [self._look_within(side, turn, layer) for side, turn in zip(sides, turns, strict=True)]
            sides = self._look_across(sides, layer)
            if number in shares and number < last:
                for which in (0, 1):
                    points = max(1, round(came[which] * shares[number]))
                    if sides[which].shape[1] > points:
                        chosen = self._likely(sides[which], number, points)
                        sides[which] = sides[which].gather(1, chosen[..., None].expand(-1, -1, self._width))
                        wide = chosen[None, :, None, :, None].expand(2, -1, 1, -1, turns[which].shape[-1])
                        turns[which] = turns[which].gather(3, wide)
                        rows[which] = rows[which].gather(1, chosen)
        return self._assign(sides, rows, self._ends[last - 1])

    def _likely(self, side: Tensor, number: int, points: int) -> Tensor:
        """(pairs, points): the points most likely to have a partner, in their order."""
        logits = F.linear(side, *self._ends[number - 1].partner).squeeze(-1)
        return logits.topk(points, dim=1, sorted=False).indices.sort(dim=1).values

    def _look_within(self, side: Tensor, turns: Tensor, layer: _Layer) -> Tensor:
        """Self-attention: (pairs, n, width) → the same."""
        queries, keys, values = self._by_head(F.linear(side, *layer.self_in), 3)
        queries, keys = self._turned(queries, turns), self._turned(keys, turns)
        if self._fused:
            seen = F.scaled_dot_product_attention(queries, keys, values, scale=1.0)
        else:
            seen = torch.empty_like(values)
            for pair in range(len(side)):  # one at a time: its similarities stay in the cache
                alike = torch.matmul(queries[pair], keys[pair].transpose(1, 2))
                torch.matmul(alike.softmax(-1), values[pair], out=seen[pair])
        return self._feed(side, seen, layer.self_out)

    def _look_across(self, sides: Sequence[Tensor], layer: _Layer) -> list[Tensor]:
        """Cross-attention, both ways."""
        (a, a_values), (b, b_values) = (self._by_head(F.linear(side, *layer.cross_in), 2) for side in sides)
        if self._fused:
            a_seen = F.scaled_dot_product_attention(a, b, b_values, scale=1.0)
            b_seen = F.scaled_dot_product_attention(b, a, a_values, scale=1.0)
        else:
            a_seen, b_seen = torch.empty_like(a_values), torch.empty_like(b_values)
            for pair in range(len(a)):
                alike = torch.matmul(a[pair], b[pair].transpose(1, 2))
                torch.matmul(alike.softmax(-1), b_values[pair], out=a_seen[pair])
                torch.matmul(alike.softmax(-2).transpose(1, 2), a_values[pair], out=b_seen[pair])
        return [self._feed(side, seen, layer.cross_out) for side, seen in zip(sides, (a_seen, b_seen), strict=True)]

    def _by_head(self, made: Tensor, parts: int) -> tuple[Tensor, ...]:
        """(pairs, n, parts * width) → each part (pairs, heads, n, head)."""
        pairs, count, _ = made.shape
        return tuple(made.view(pairs, count, parts, self._heads, self._head_width).permute(2, 0, 3, 1, 4).contiguous())

    def _turned(self, parts: Tensor, turns: Tensor) -> Tensor:
        """Rotary encoding of places; the halves of a head hold what the authors have at even and odd numbers."""
        first, second = parts.chunk(2, dim=-1)
        cosines, sines = turns
        return torch.cat([first * cosines - second * sines, second * cosines + first * sines], dim=-1)

    def _feed(self, side: Tensor, seen: Tensor, feed: _Feed) -> Tensor:
        pairs, count, _ = side.shape
        message = seen.transpose(1, 2).reshape(pairs, count, self._width)
        inner = F.linear(torch.cat([side, message], dim=-1), *feed.inner)
        inner = F.gelu(F.layer_norm(inner, inner.shape[-1:], *feed.norm))
        return side + F.linear(inner, *feed.outer)

    def _assign(self, sides: Sequence[Tensor], rows: Sequence[Tensor], end: _Head) -> list[PairMatches]:
        """Mutual best partners and their confidences (LightGlue, equations 6 to 8), in float32."""
        a, b = (F.linear(side, *end.project) for side in sides)
        alike = torch.matmul(a, b.transpose(1, 2)).float()
        a_logit, b_logit = (F.linear(side, *end.partner).float() for side in sides)
        log = alike.log_softmax(2) + alike.log_softmax(1) + F.logsigmoid(a_logit) + F.logsigmoid(b_logit).mT
        best, partner = log.max(dim=2)
        back = log.argmax(dim=1)
        confidence = best.exp()
        here = torch.arange(log.shape[1], device=self._device)
        good = (back.gather(1, partner) == here) & (confidence > THRESHOLD)
        matches = []
        for pair in range(len(log)):
            chosen = good[pair].nonzero().squeeze(1)
            matches.append(
                PairMatches(
                    rows[0][pair][chosen].cpu().numpy(),
                    rows[1][pair][partner[pair][chosen]].cpu().numpy(),
                    confidence[pair][chosen].cpu().numpy(),
                )
            )
        return matches

    def _ready(self, tensor: Tensor) -> Tensor:
        return tensor.detach().to(self._device, self._precision).contiguous()

    def _weight(self, linear: Any, factor: float = 1.0) -> Weight:
        return self._ready(linear.weight * factor), self._ready(linear.bias * factor)

    def _fold(self, layer: Any) -> _Layer:
        within, across, heads, head = layer.self_attn, layer.cross_attn, self._heads, self._head_width
        # kornia has queries, keys and values of a head side by side, and turns numbers 0 and 1, 2 and 3, … together.
        halves = torch.cat([torch.arange(0, head, 2), torch.arange(1, head, 2)])
        weight, bias = within.Wqkv.weight.view(heads, head, 3, -1), within.Wqkv.bias.view(heads, head, 3)
        scale = head**-0.5
        weights = [weight[:, halves, 0] * scale, weight[:, halves, 1], weight[:, :, 2]]
        biases = [bias[:, halves, 0] * scale, bias[:, halves, 1], bias[:, :, 2]]
        root = head**-0.25
        return _Layer(
            (
                self._ready(torch.cat([part.reshape(self._width, -1) for part in weights])),
                self._ready(torch.cat([part.reshape(-1) for part in biases])),
            ),
            self._fold_feed(within.ffn, within.out_proj),
            (
                self._ready(torch.cat([across.to_qk.weight * root, across.to_v.weight])),
                self._ready(torch.cat([across.to_qk.bias * root, across.to_v.bias])),
            ),
            self._fold_feed(across.ffn, across.to_out),
        )

    def _fold_feed(self, feed: Any, out: Any) -> _Feed:
        """The map out of the attention goes into the one that takes its message."""
        own, message = feed[0].weight[:, : self._width], feed[0].weight[:, self._width :]
        inner = torch.cat([own, message @ out.weight], dim=1), feed[0].bias + message @ out.bias
        return _Feed((self._ready(inner[0]), self._ready(inner[1])), self._weight(feed[1]), self._weight(feed[3]))

    def _fold_end(self, end: Any) -> _Head:
        return _Head(self._weight(end.final_proj, self._width**-0.25), self._weight(end.matchability))


def fastest_precision(device: torch.device) -> torch.dtype:
    """Half precision where the device has instructions for it: float16 on a GPU, bfloat16 on some CPUs."""
    if device.type != "cpu":
        return torch.float16
    has = torch.cpu.get_capabilities() if hasattr(torch.cpu, "get_capabilities") else {}
    return torch.bfloat16 if has.get("avx512_bf16") or has.get("amx_bf16") else torch.float32


def load_matcher(name: ExtractorName, *, device: str = "cpu", precision: torch.dtype | None = None) -> LightGlue:
    """The matcher for an extractor's features, with the weights of its Python package.

    Raises:
        InputError: the package with the weights is not installed.
        ArtefactMismatch: the weights do not fit kornia's network.
    """
    return LightGlue(load_kornias(name), device=device, precision=precision)


def load_kornias(name: ExtractorName) -> Any:
    """kornia's ``LightGlue`` for an extractor's features, as it comes: pair by pair, with early exit and pruning.

    Raises:
        InputError: the package with the weights is not installed.
        ArtefactMismatch: the weights do not fit kornia's network.
    """
    from kornia.feature import LightGlue as KorniaLightGlue

    path = find_weights(MATCHERS[name])
    module: Any = KorniaLightGlue
    known = module.features["aliked" if name.startswith("aliked") else name]
    # None: else kornia would fetch the weights itself. Its ``flash`` is a switch of torch for the whole process, which
    # is on in either.
    network = module(None, **{**known, "weights": None})
    state = {_as_kornia_names_it(key): tensor for key, tensor in read_weights(path).items()}
    # Of the training, and of the extractor, which some files hold as well.
    state = {key: tensor for key, tensor in state.items() if not key.endswith(".r") and "extractor." not in key}
    fill(network, state, path, derived=("confidence_thresholds",))
    return network


def _as_kornia_names_it(key: str) -> str:
    """Older files say ``self_attn.0.`` for ``transformers.0.self_attn.``."""
    key = key.removeprefix("matcher.")
    kind, _, rest = key.partition(".")
    if kind in ("self_attn", "cross_attn"):
        number, _, rest = rest.partition(".")
        return f"transformers.{number}.{kind}.{rest}"
    return key
