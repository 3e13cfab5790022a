from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import timm
import torch
from numpy.typing import NDArray
from torch import nn

from resight.errors import InputError
from resight.matching.heat import looked_at, shares_of_cosine
from resight.models.backbone import backbone_dim
from resight.models.config import EmbedderConfig
from resight.models.embedder import Embedder

SIDE = 64


def seeing_colours(**settings: Any) -> Embedder:
    """A network that sees the mean red, green and blue of each of 4 x 4 blocks, from 0 to 1, and pools them."""
    columns = settings.get("gem_columns", 1)
    values: dict[str, Any] = {"neck": "none", "pooling_p": 1.0, **settings}
    config = EmbedderConfig("test_resnet", 3 * columns, SIDE, (0.0, 0.0, 0.0), (1.0, 1.0, 1.0), **values)
    embedder = Embedder(config)
    embedder.backbone = nn.AvgPool2d(SIDE // 4)
    return embedder.eval()


def with_a_neck(embedder: Embedder, seed: int) -> Embedder:
    """Give the neck numbers as training leaves them."""
    torch.manual_seed(seed)
    neck = embedder.bn
    assert isinstance(neck, nn.BatchNorm1d)
    assert neck.running_mean is not None
    assert neck.running_var is not None
    with torch.no_grad():
        neck.weight.normal_(1, 0.3)
        neck.bias.normal_(0, 0.2)
        neck.running_mean.uniform_(0.1, 0.4)
        neck.running_var.uniform_(0.2, 0.6)
    return embedder


def blocks(colours: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """(4, 4, 3) → a chip of 4 x 4 even blocks."""
    return colours.repeat(SIDE // 4, axis=0).repeat(SIDE // 4, axis=1)


def random_blocks(seed: int) -> NDArray[np.uint8]:
    return np.random.default_rng(seed).integers(10, 256, (4, 4, 3), dtype=np.uint8)


def random_vectors(count: int, dim: int, seed: int = 0) -> NDArray[np.float32]:
    return np.random.default_rng(seed).normal(size=(count, dim)).astype(np.float32)


def cosine(embedder: Embedder, chip: NDArray[np.uint8], other: NDArray[np.float32]) -> float:
    with torch.no_grad():
        vector = embedder(torch.tensor(chip[None]).permute(0, 3, 1, 2))[0].double().numpy()
    return float(vector @ other / np.linalg.norm(vector) / np.linalg.norm(other))


@pytest.mark.parametrize("p", [1.0, 3.0, 20.0])
def test_only_the_corner_that_is_like_the_other_is_hot(p: float) -> None:
    colours = np.zeros((4, 4, 3), np.uint8)
    colours[:, :, 2] = 200  # blue all over
    colours[0, 3] = (255, 0, 0)  # red in the upper right corner
    red, blue = looked_at(seeing_colours(pooling_p=p), blocks(colours), np.eye(3, dtype=np.float32)[[0, 2]])
    expected = np.zeros((4, 4))
    expected[0, 3] = 1
    assert red == pytest.approx(expected, abs=1e-5)
    assert blue == pytest.approx(1 - expected, abs=1e-5)


def test_with_columns_a_mark_is_hot_only_in_the_strip_that_is_alike() -> None:
    colours = np.zeros((4, 4, 3), np.uint8)
    colours[1, 0] = colours[2, 3] = (255, 0, 0)  # a red mark in the left half, and one in the right
    embedder = seeing_colours(gem_columns=2)
    left, right, both = np.eye(6, dtype=np.float32)[0], np.eye(6, dtype=np.float32)[3], np.zeros(6, np.float32)
    both[[0, 3]] = 1, 0.5
    found = looked_at(embedder, blocks(colours), np.stack([left, right, both]))
    assert [tuple(np.argwhere(heat > 1e-5)[0]) for heat in found[:2]] == [(1, 0), (2, 3)]
    assert (found[:2] > 1e-5).sum() == 2
    assert found[2][1, 0] == 1
    assert found[2][2, 3] == pytest.approx(0.5)


def test_what_takes_from_the_cosine_is_cold() -> None:
    colours = np.zeros((4, 4, 3), np.uint8)
    colours[0, 0], colours[3, 3] = (255, 0, 0), (0, 255, 0)
    shares = shares_of_cosine(seeing_colours(), blocks(colours), np.array([[1, -1, 0], [-1, -1, 0]], np.float32))
    # e = (1, 1, 0) / 16, so each mark has 1 / (sqrt 2 sqrt 2) of the cosine.
    assert shares[0][0, 0] == pytest.approx(0.5, abs=1e-4)
    assert shares[0][3, 3] == pytest.approx(-0.5, abs=1e-4)
    heats = looked_at(seeing_colours(), blocks(colours), np.array([[1, -1, 0], [-1, -1, 0]], np.float32))
    assert heats[0][0, 0] == 1
    assert heats[0][3, 3] == 0
    assert (heats[1] == 0).all()  # nothing in it is like the other


@pytest.mark.parametrize("p", [1.0, 3.0])
@pytest.mark.parametrize("columns", [1, 2])
def test_shares_agree_with_a_naive_loop(p: float, columns: int) -> None:
    embedder = with_a_neck(seeing_colours(pooling_p=p, neck="batchnorm", gem_columns=columns), seed=1)
    colours, others = random_blocks(2), random_vectors(2, 3 * columns)
    neck = embedder.bn
    assert isinstance(neck, nn.BatchNorm1d)
    slope = (neck.weight / (neck.running_var + neck.eps).sqrt()).detach().double().numpy()  # type: ignore[operator]
    shift = neck.bias.detach().double().numpy() - slope * neck.running_mean.double().numpy()  # type: ignore[union-attr]
    places = colours / 255.0
    width = 4 // columns
    vector = np.empty(3 * columns)
    for strip in range(columns):
        seen = places[:, strip * width : (strip + 1) * width].reshape(-1, 3)
        vector[3 * strip : 3 * strip + 3] = (seen**p).mean(axis=0) ** (1 / p)
    embedding = slope * vector + shift
    for other, found in zip(others, shares_of_cosine(embedder, blocks(colours), others), strict=True):
        expected = np.zeros((4, 4))
        for y in range(4):
            for x in range(4):
                strip = x // width
                seen = places[:, strip * width : (strip + 1) * width].reshape(-1, 3)
                for channel in range(3):
                    d = 3 * strip + channel
                    part = places[y, x, channel] ** p / (seen[:, channel] ** p).sum()
                    made = slope[d] * vector[d] * part + shift[d] / len(seen)
                    expected[y, x] += made * other[d] / np.linalg.norm(embedding) / np.linalg.norm(other)
        assert found == pytest.approx(expected, abs=1e-5)


@pytest.mark.parametrize(
    ("backbone", "settings"),
    [
        ("test_resnet", {}),
        ("test_resnet", {"gem_columns": 2, "pooling_p": 2.0}),
        ("test_efficientnet", {"gem_levels": 2, "gem_columns": 2}),
        ("test_vit", {}),
        ("test_resnet", {"neck": "none"}),
    ],
)
def test_shares_add_up_to_the_cosine_whatever_the_network(backbone: str, settings: dict[str, Any]) -> None:
    assert timm.is_model(backbone)
    size = 160 if backbone == "test_vit" else 96
    shaping = {key: settings[key] for key in ("gem_levels", "gem_columns") if key in settings}
    dim = backbone_dim(backbone, size, **shaping)
    torch.manual_seed(0)
    embedder = Embedder(EmbedderConfig(backbone, dim, size, (0.5,) * 3, (0.25,) * 3, **settings)).eval()
    if embedder.config.neck == "batchnorm":
        with_a_neck(embedder, seed=3)
    chip = np.random.default_rng(1).integers(0, 256, (size, size, 3), dtype=np.uint8)
    likely = embedder.embed_chips(chip[None])[0].astype(np.float32)
    others = np.stack([likely, -likely, *random_vectors(2, dim)])
    shares = shares_of_cosine(embedder, chip, others)
    assert shares.shape[0] == 4
    assert shares.shape[1] == shares.shape[2] > 1
    assert shares.sum(axis=(1, 2)) == pytest.approx([cosine(embedder, chip, other) for other in others], abs=1e-4)
    heats = looked_at(embedder, chip, others)
    assert heats.dtype == np.float32
    assert heats.min() == 0
    assert heats[0].max() == 1
    assert shares[1] == pytest.approx(-shares[0], abs=1e-5)


def test_the_lengths_of_the_vectors_do_not_matter() -> None:
    embedder = with_a_neck(seeing_colours(neck="batchnorm", pooling_p=3.0), seed=5)
    chip, others = blocks(random_blocks(6)), random_vectors(2, 3)
    assert shares_of_cosine(embedder, chip, 40 * others) == pytest.approx(
        shares_of_cosine(embedder, chip, others), abs=1e-6
    )
    assert shares_of_cosine(embedder, chip, others.astype(np.float16)) == pytest.approx(
        shares_of_cosine(embedder, chip, others), abs=1e-2
    )


def test_looking_leaves_the_network_as_it_was() -> None:
    embedder = with_a_neck(seeing_colours(neck="batchnorm"), seed=5)
    before = embedder.weights_hash
    embedder.train()
    with torch.inference_mode():
        looked_at(embedder, blocks(random_blocks(6)), random_vectors(1, 3))
    assert embedder.training
    assert embedder.weights_hash == before
    assert all(weight.grad is None for weight in embedder.parameters())
    assert not embedder.pooling._forward_pre_hooks


def test_what_cannot_be_looked_at_is_refused_in_one_line() -> None:
    embedder = seeing_colours()
    chip, others = blocks(random_blocks(6)), random_vectors(1, 3)
    with pytest.raises(InputError, match=r"vectors of shape \(1, 4\): expected \(n, 3\)"):
        looked_at(embedder, chip, random_vectors(1, 4))
    with pytest.raises(InputError, match="length 0"):
        looked_at(embedder, chip, np.zeros((1, 3), np.float32))
    with pytest.raises(InputError, match=r"chip of shape \(1, 64, 64, 3\)"):
        looked_at(embedder, chip[None], others)
    with pytest.raises(InputError, match="32"):
        looked_at(embedder, chip[:32, :32], others)
    pooled = EmbedderConfig("test_vit", 64, 160, (0.5,) * 3, (0.25,) * 3, pooling="backbone")
    with pytest.raises(InputError, match="only models with pooling 'gem'"):
        looked_at(Embedder(pooled), np.zeros((160, 160, 3), np.uint8), random_vectors(1, 64))
