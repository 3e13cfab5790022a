from __future__ import annotations

import numpy as np
import pytest
import torch

from resight.attributes.fitting import FitOptions, fit_head
from resight.attributes.network import COLUMNS, IMAGE_SIZE, attribute_config, attribute_network
from resight.embedding import passport_for
from resight.models.embedder import Embedder
from resight.models.packaged import load_packaged

from .drawn import labelled, looking_left, mirrored

SIZE = 128
PICTURES = 40


@pytest.fixture(scope="module")
def network() -> Embedder:
    return attribute_network(image_size=SIZE)


@pytest.fixture(scope="module")
def pictures() -> np.ndarray:
    left = np.stack([looking_left(seed, SIZE) for seed in range(PICTURES)])
    return np.concatenate([left, mirrored(left)])


@pytest.fixture(scope="module")
def features(network: Embedder, pictures: np.ndarray) -> np.ndarray:
    return network.embed_chips(pictures).astype(np.float32)


def test_a_vector_is_the_plain_means_of_four_strips_from_left_to_right(
    network: Embedder, pictures: np.ndarray, features: np.ndarray
) -> None:
    packaged = load_packaged("imagenet-lite0")
    chips = torch.tensor(pictures[:2]).permute(0, 3, 1, 2)
    with torch.inference_mode():
        maps = packaged.backbone((chips.float() - packaged.mean) / packaged.std)
    assert maps.shape == (2, 1280, 4, 4)
    by_hand = maps.mean(dim=2).permute(0, 2, 1).reshape(2, 4 * 1280).numpy()
    assert by_hand.min() >= 0  # so that what GeM raises to its eps is zero
    np.testing.assert_allclose(features[:2], by_hand, atol=2e-3)


def test_the_config_says_what_decides() -> None:
    config = attribute_config()
    assert (config.image_size, config.gem_columns, config.dim, config.pooling_p) == (IMAGE_SIZE, COLUMNS, 5120, 1.0)
    assert config.licence == "Apache-2.0"
    one = attribute_network(columns=1, image_size=SIZE)
    four = attribute_network(image_size=SIZE)
    assert passport_for(one).decides != passport_for(four).decides


def test_left_is_told_from_right_by_columns_and_not_by_the_mean_of_the_map(features: np.ndarray) -> None:
    """A picture and its mirror image are of one individual, so what tells them apart is the side alone."""
    labels = ["left"] * PICTURES + ["right"] * PICTURES
    of_individual = [str(n) for n in range(PICTURES)] * 2
    chosen = labelled(labels, of_individual)
    _, by_columns = fit_head(chosen, features, {}, FitOptions(strengths=(5.0,)))
    pooled = features.reshape(len(features), COLUMNS, -1).mean(axis=1)
    _, by_mean = fit_head(chosen, pooled, {}, FitOptions(strengths=(5.0,)))
    assert by_columns.accuracy >= 0.97
    assert by_mean.accuracy <= 0.8


def test_a_mirror_image_turns_the_answer_round(features: np.ndarray) -> None:
    half = PICTURES // 2
    fitted = [*range(half), *range(PICTURES, PICTURES + half)]
    labels = ["left"] * half + ["right"] * half
    head, _ = fit_head(labelled(labels, [str(n) for n in range(half)] * 2), features[fitted], {})
    others = head.confidences(features[half:PICTURES]), head.confidences(features[PICTURES + half :])
    said = [head.classes[k] for k in others[0].argmax(axis=1)], [head.classes[k] for k in others[1].argmax(axis=1)]
    assert np.mean([one == "left" for one in said[0]]) >= 0.9
    assert np.mean([one == "right" for one in said[1]]) >= 0.9
