from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch

from resight.errors import InputError
from resight.models.embedder import Embedder
from resight.models.weights import new_embedder

from .drawn import draw_samples
from .runs import QUICK, trained


def test_names_that_are_taken_or_missing(tmp_path: Path) -> None:
    samples = draw_samples(tmp_path / "chips", identities=2, chips=2)
    (tmp_path / "taken").mkdir()
    (tmp_path / "taken" / "config.json").write_text("{}", encoding="utf-8")
    with pytest.raises(InputError, match=r"run 'taken' exists: .*--resume"):
        trained(samples, QUICK, tmp_path / "taken")
    with pytest.raises(InputError, match="no run 'absent' to go on with"):
        trained(samples, QUICK, tmp_path / "absent", resume=True)
    with pytest.raises(InputError, match="the name of a packaged model"):
        trained(samples, QUICK, tmp_path / "imagenet-lite0")


def test_a_start_that_fails_leaves_the_name_free(tmp_path: Path) -> None:
    samples = draw_samples(tmp_path / "chips", identities=2, chips=2)
    with pytest.raises(InputError, match="--weights FILE"):
        trained(samples, replace(QUICK, weights="imagenet"), tmp_path / "run")
    assert not (tmp_path / "run").exists()
    assert trained(samples, replace(QUICK, epochs=1), tmp_path / "run").epochs == 1


def test_starts_from_a_model_and_leaves_it_as_it_is(tmp_path: Path) -> None:
    samples = draw_samples(tmp_path / "chips", identities=2, chips=2)
    torch.manual_seed(0)
    start = new_embedder("test_resnet", weights="none", image_size=96)
    before = start.weights_hash
    still = replace(QUICK, epochs=1, learning_rate=1e-12, learning_rate_start=0.0, learning_rate_end=0.0)
    result = trained(samples, still, tmp_path / "run", initial=start)
    assert start.weights_hash == before
    learned = Embedder.load(result.model)
    assert learned.config.image_size == 64
    first, now = start.state_dict(), learned.state_dict()
    assert torch.allclose(first["backbone.conv1.0.weight"], now["backbone.conv1.0.weight"], atol=1e-6)
    with pytest.raises(InputError, match="set backbone=test_resnet"):
        trained(samples, replace(QUICK, backbone="test_efficientnet"), tmp_path / "other", initial=start)
