from __future__ import annotations

import csv
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from resight.errors import TrainingError
from resight.models.embedder import Embedder
from resight.models.weights import new_embedder
from resight.training import loop
from resight.training.chipset import TrainingSample
from resight.training.validation import HeldOut

from .drawn import draw_samples
from .runs import QUICK, same, trained, weights_of

SMALL = replace(QUICK, image_size=32)


@pytest.fixture
def samples(tmp_path: Path) -> list[TrainingSample]:
    """Four animals of two species, 5 chips each, the first two of each animal from one encounter."""
    drawn = draw_samples(tmp_path / "chips", identities=4, chips=5, size=32)
    return [
        replace(one, encounter=f"{one.species} {one.identity} {max(1, place % 5)}") for place, one in enumerate(drawn)
    ]


@pytest.fixture
def embedder() -> Embedder:
    torch.manual_seed(5)
    return new_embedder("test_resnet", weights="none", image_size=32)


def naive_top1(embedder: Embedder, samples: list[TrainingSample]) -> float:
    """Each chip among the others of its species but not of its encounter; then the mean over species."""
    rates = []
    for species in sorted({sample.species for sample in samples}):
        own = [sample for sample in samples if sample.species == species]
        vectors = embedder.embed_chips(np.stack([np.load(sample.chip_path) for sample in own])).astype(np.float64)
        hits = []
        for query, vector in zip(own, vectors, strict=True):
            others = [n for n, other in enumerate(own) if other is not query and other.encounter != query.encounter]
            if any(own[n].identity == query.identity for n in others):
                lengths = np.linalg.norm(vectors[others], axis=1) * np.linalg.norm(vector)
                nearest = others[int(np.argmax(vectors[others] @ vector / lengths))]
                hits.append(own[nearest].identity == query.identity)
        if hits:
            rates.append(float(np.mean(hits)))
    return 100 * sum(rates) / len(rates)


def test_top1_agrees_with_a_naive_loop(samples: list[TrainingSample], embedder: Embedder) -> None:
    uneven = [*samples[:10], *samples[10:12], *samples[15:]]  # one animal has one encounter only: no possible match
    for some in (samples, uneven):
        held = HeldOut(some, 32)
        assert held.top1(embedder) == pytest.approx(naive_top1(embedder, some))
        assert held.skipped == ()
    shuffled = [samples[place] for place in np.random.default_rng(0).permutation(20)]
    assert HeldOut(shuffled, 32).top1(embedder) == pytest.approx(naive_top1(embedder, samples))


def test_top1_by_hand(tmp_path: Path, samples: list[TrainingSample], embedder: Embedder) -> None:
    # Copies of one chip in two encounters find each other; alone in their encounter there is nobody to find.
    barred = [one for one in samples if one.species == "barred"]
    twins = [
        replace(one, annotation_id=f"{one.annotation_id} {copy}", encounter=f"{copy}")
        for one in (barred[0], barred[5])
        for copy in "ab"
    ]
    assert HeldOut(twins, 32).top1(embedder) == 100.0
    swapped = [replace(one, chip_path=barred[5 * (place in (0, 3))].chip_path) for place, one in enumerate(twins)]
    assert HeldOut(swapped, 32).top1(embedder) == 0.0
    assert HeldOut([replace(one, encounter="the same") for one in twins], 32).top1(embedder) is None
    assert HeldOut([], 32).top1(embedder) is None


def test_a_chip_that_cannot_be_used_is_left_out_by_name(samples: list[TrainingSample], embedder: Embedder) -> None:
    samples[3].chip_path.write_bytes(b"")
    held = HeldOut(samples, 32)
    assert [one.annotation_id for one in held.skipped] == [samples[3].annotation_id]
    assert held.top1(embedder) == pytest.approx(naive_top1(embedder, [*samples[:3], *samples[4:]]))


@pytest.mark.parametrize("ema_decay", [None, 0.5])
def test_every_epoch_scores_the_model_that_would_be_kept_and_changes_nothing(
    tmp_path: Path, samples: list[TrainingSample], monkeypatch: pytest.MonkeyPatch, ema_decay: float | None
) -> None:
    learned, held_out = samples[::2], samples[1::2]
    recipe = replace(SMALL, ema_decay=ema_decay)
    scored: list[float] = []

    class Naive(HeldOut):
        def top1(self, embedder: Embedder) -> float | None:
            scored.append(naive_top1(embedder, held_out))
            return super().top1(embedder)

    monkeypatch.setattr(loop, "HeldOut", Naive)
    result = trained(learned, recipe, tmp_path / "scored", held_out=held_out)
    assert len(scored) == 2
    with (tmp_path / "scored" / "log.csv").open(newline="", encoding="utf-8") as file:
        assert [float(row["validation_top1"]) for row in csv.DictReader(file)] == pytest.approx(scored)
    assert result.validation_top1 == pytest.approx(naive_top1(Embedder.load(result.model), held_out))

    alone = trained(learned, recipe, tmp_path / "alone")
    assert alone.validation_top1 is None
    assert same(weights_of(alone), weights_of(result))
    with (tmp_path / "alone" / "log.csv").open(newline="", encoding="utf-8") as file:
        assert [row["validation_top1"] for row in csv.DictReader(file)] == ["", ""]


def test_embeddings_that_cannot_be_scored_are_a_diverged_run(
    tmp_path: Path, samples: list[TrainingSample], embedder: Embedder
) -> None:
    assert isinstance(embedder.bn, torch.nn.BatchNorm1d)
    torch.nn.init.constant_(embedder.bn.weight, 1e9)  # the loss, which is of angles, does not see it
    with pytest.raises(
        TrainingError, match=r"held-out photos cannot be scored, since .* reaches .*lower learning_rate"
    ):
        trained(samples[::2], SMALL, tmp_path / "run", held_out=samples[1::2], initial=embedder)
    assert not (tmp_path / "run" / "checkpoint").exists()
