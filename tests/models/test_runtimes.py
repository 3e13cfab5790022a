from __future__ import annotations

import logging
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from resight.errors import InputError, UnknownName
from resight.models import runtimes, torch_runtime
from resight.models.agreement import Agreement, measure_agreement
from resight.models.choosing import choose_runtime
from resight.models.config import EmbedderConfig
from resight.models.embedder import Embedder
from resight.models.exporting import draw_chips
from resight.models.library import find_model
from resight.models.torch_runtime import TorchRuntime, fold_batch_norms

CONFIG = EmbedderConfig(
    backbone="test_efficientnet", dim=256, image_size=64, mean=(0.5, 0.4, 0.3), std=(0.2, 0.25, 0.3)
)
CHIPS = draw_chips(20, 64)


def lively(embedder: Embedder) -> Embedder:
    """Every BatchNorm with statistics and weights of its own: folding that forgets one of them shows."""
    torch.manual_seed(1)
    for module in embedder.modules():
        if isinstance(module, nn.BatchNorm2d | nn.BatchNorm1d):
            nn.init.uniform_(module.weight, 0.5, 1.5)
            nn.init.normal_(module.bias, 0.0, 0.2)
            module.momentum = None  # the plain mean of what comes
    embedder.train()
    with torch.no_grad():
        for _ in range(2):
            embedder(torch.from_numpy(CHIPS).permute(0, 3, 1, 2))
    return embedder.eval()


@pytest.fixture(scope="module")
def embedder() -> Embedder:
    torch.manual_seed(0)
    return lively(Embedder(CONFIG))


def test_agreement_of_a_case_worked_by_hand() -> None:
    reference = np.array([[1.0, 0.0], [1.0, 0.1], [0.0, 2.0], [0.2, 1.0]])
    assert measure_agreement(reference, 7 * reference) == Agreement(4, pytest.approx(1.0), 1.0)
    turned = reference.copy()
    turned[3] = [1.0, 0.05]  # was the nearest of the third; is now the nearest of the first two, and they are its
    found = measure_agreement(reference, turned)
    assert found.cosine_min == pytest.approx((0.2 * 1.0 + 1.0 * 0.05) / np.sqrt(1.04 * 1.0025))
    assert found.same_top1 == 0.0
    assert not found.holds


def test_chips_that_are_the_same_have_the_same_nearest_whichever_comes_out_first() -> None:
    rng = np.random.default_rng(0)
    vectors = np.repeat(rng.normal(size=(2, 300)), 5, axis=0)  # two pictures, five times each
    shaken = vectors + rng.normal(scale=1e-5, size=vectors.shape)
    assert measure_agreement(vectors, shaken).same_top1 == 1.0


@pytest.mark.parametrize("broken", [np.nan, np.inf])
def test_a_vector_that_is_no_number_agrees_with_nothing(broken: float) -> None:
    vectors = np.ones((3, 2))
    vectors[1, 0] = broken
    assert measure_agreement(np.ones((3, 2)), vectors).cosine_min == -1.0


def test_ranks_are_kept_only_where_the_vectors_agree_and_the_nearest_stay() -> None:
    assert Agreement(200, 0.9999, 0.99).keeps_ranks
    assert not Agreement(200, 0.9999, 0.985).keeps_ranks
    assert not Agreement(200, 0.9995, 1.0).keeps_ranks
    assert Agreement(200, 0.9995, 0.5).holds
    assert not Agreement(200, 0.9985, 1.0).holds
    assert measure_agreement(np.eye(2), np.eye(2)).same_top1 is None


@pytest.mark.parametrize("backbone", ["test_efficientnet", "test_resnet", "test_nfnet", "test_vit"])
def test_folding_changes_no_vector_and_not_the_network_it_was_made_from(backbone: str) -> None:
    torch.manual_seed(0)
    dim = {"test_efficientnet": 256, "test_resnet": 96, "test_nfnet": 192, "test_vit": 64}[backbone]
    size = 160 if backbone == "test_vit" else 64
    config = EmbedderConfig(backbone, dim, size, CONFIG.mean, CONFIG.std)
    network = Embedder(config).eval() if size != 64 else lively(Embedder(config))
    before = network.weights_hash
    images = torch.from_numpy(CHIPS if size == 64 else draw_chips(2, size)).permute(0, 3, 1, 2)
    folded = fold_batch_norms(network)
    with torch.inference_mode():
        assert torch.allclose(folded(images), network(images), rtol=1e-3, atol=1e-4)
    assert network.weights_hash == before


def test_folding_leaves_no_batch_norm_in_an_efficientnet(embedder: Embedder) -> None:
    assert not any(isinstance(module, nn.BatchNorm2d) for module in fold_batch_norms(embedder).backbone.modules())


class _SharedOrder(nn.Module):
    """Defines a BatchNorm right after a convolution, and uses it before."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 3, 1)
        self.bn = nn.BatchNorm2d(3)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return self.conv(torch.relu(self.bn(images)))


def test_a_fold_that_gives_other_vectors_is_given_up() -> None:
    torch.manual_seed(3)
    network = Embedder(EmbedderConfig("test_resnet", 96, 64, CONFIG.mean, CONFIG.std))
    network.backbone = _SharedOrder()
    network.bn = nn.BatchNorm1d(3)
    network.backbone.bn.weight.data = torch.tensor([3.0, -1.0, 0.5])
    network.backbone.bn.bias.data = torch.tensor([1.0, 2.0, -3.0])
    runtime = TorchRuntime(network.eval())
    runtime.config = EmbedderConfig("test_resnet", 3, 64, CONFIG.mean, CONFIG.std)
    with torch.inference_mode():
        expected = network(torch.from_numpy(CHIPS).permute(0, 3, 1, 2)).numpy()
        folded = fold_batch_norms(network)(torch.from_numpy(CHIPS).permute(0, 3, 1, 2)).numpy()
    assert not measure_agreement(expected, folded).holds
    assert np.allclose(runtime.embed_chips(CHIPS), expected, rtol=1e-2, atol=1e-3)


@pytest.mark.parametrize("count", [0, 1, 15, 16, 20])
def test_torch_gives_the_vectors_of_the_network(embedder: Embedder, count: int) -> None:
    runtime = TorchRuntime(embedder)
    runtime.batch = 7
    vectors = runtime.embed_chips(CHIPS[:count])
    assert (vectors.dtype, vectors.shape) == (np.float16, (count, 256))
    assert np.allclose(vectors, embedder.embed_chips(CHIPS[:count]), rtol=2e-3, atol=2e-3)
    assert runtime.weights_hash == embedder.weights_hash
    assert runtime.made_by == "torch float32"


@pytest.mark.parametrize("agrees", [True, False])
def test_half_precision_is_used_only_where_it_is_seen_to_agree(
    embedder: Embedder, agrees: bool, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    if not agrees:
        real = torch_runtime._in_precision

        def worse(network: Embedder, device: torch.device, precision: str):  # type: ignore[no-untyped-def]
            run = real(network, device, precision)  # type: ignore[arg-type]
            return run if precision == "float32" else lambda images: run(images) * torch.linspace(-1, 1, 256)

        monkeypatch.setattr(torch_runtime, "_in_precision", worse)
    runtime = TorchRuntime(embedder, precision="float16")
    with caplog.at_level(logging.INFO):
        vectors = runtime.embed_chips(CHIPS)
    assert runtime.made_by == ("torch float16" if agrees else "torch float32")
    assert ("float16 does not agree" in caplog.text) is not agrees
    exact = embedder.embed_chips(CHIPS)
    assert measure_agreement(exact, vectors).holds
    assert (np.abs(vectors - exact).max() > 5e-3) == agrees  # float16 did run


def test_a_batch_that_half_precision_cannot_hold_is_done_again_in_float32(embedder: Embedder) -> None:
    runtime = TorchRuntime(embedder, precision="float16")
    runtime.batch = 8
    runtime.embed_chips(CHIPS)
    half = runtime._faster
    assert half is not None
    batches = 0

    def overflows(images: torch.Tensor) -> torch.Tensor:
        nonlocal batches
        batches += 1
        return half(images) * (float("inf") if batches == 2 else 1.0)

    runtime._faster = overflows
    vectors = runtime.embed_chips(CHIPS)
    exact = embedder.embed_chips(CHIPS)
    assert np.allclose(vectors[8:16], exact[8:16], rtol=2e-3, atol=2e-3)
    assert measure_agreement(exact, vectors).holds


def test_where_memory_is_short_batches_become_smaller(embedder: Embedder) -> None:
    runtime = TorchRuntime(embedder)
    runtime.batch = 16
    sizes: list[int] = []

    def small(images: torch.Tensor) -> torch.Tensor:
        sizes.append(len(images))
        if len(images) > 5:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return embedder(images)

    runtime._faster = small
    vectors = runtime.embed_chips(CHIPS[:10])
    assert sizes == [10, 8, 4, 4, 2]
    assert np.allclose(vectors, embedder.embed_chips(CHIPS[:10]), rtol=2e-3, atol=2e-3)


def test_a_compiled_network_sees_batches_of_one_size_only(embedder: Embedder, monkeypatch: pytest.MonkeyPatch) -> None:
    sizes: list[int] = []

    def compile(network):  # type: ignore[no-untyped-def]
        def run(images: torch.Tensor) -> torch.Tensor:
            sizes.append(len(images))
            return network(images)

        return run

    monkeypatch.setattr(torch, "compile", compile)
    runtime = TorchRuntime(embedder, compiled=True)
    runtime.batch = 8
    vectors = runtime.embed_chips(CHIPS)
    assert sizes == [8, 8, 8]
    assert np.allclose(vectors, embedder.embed_chips(CHIPS), rtol=2e-3, atol=2e-3)


@pytest.mark.parametrize("chips", [CHIPS.astype(np.float32), CHIPS[:, :32, :32], CHIPS[0], CHIPS.transpose(0, 3, 1, 2)])
def test_chips_of_another_type_or_shape_are_refused(embedder: Embedder, chips: np.ndarray) -> None:
    exported = runtimes.ExportedRuntime(CONFIG, "abcd", "onnx float32", lambda batch: batch)  # type: ignore[arg-type,return-value]
    for runtime in (TorchRuntime(embedder), exported):
        with pytest.raises(InputError, match=r"expected uint8 of shape \(n, 64, 64, 3\)"):
            runtime.embed_chips(chips)


@pytest.mark.parametrize("value", [np.nan, np.inf, 70000.0])
def test_a_vector_that_float16_cannot_hold_is_refused_with_its_place(value: float) -> None:
    def run(batch: np.ndarray) -> np.ndarray:
        vectors = np.ones((len(batch), 256), np.float32)
        vectors[(batch == 255).all(axis=(1, 2, 3)), 3] = value
        return vectors

    runtime = runtimes.ExportedRuntime(CONFIG, "abcd", "onnx float32", run)
    runtime.batch = 4
    chips = np.zeros((10, 64, 64, 3), np.uint8)
    assert runtime.embed_chips(chips).shape == (10, 256)
    chips[6] = 255
    with pytest.raises(InputError, match="the embedding of chip 6 reaches"):
        runtime.embed_chips(chips)


@pytest.mark.parametrize(("asked", "package"), [("onnx", "onnxruntime"), ("openvino", "openvino")])
def test_a_missing_package_is_named_with_what_installs_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, asked: str, package: str
) -> None:
    real = runtimes.find_spec
    monkeypatch.setattr(runtimes, "find_spec", lambda name: None if name == package else real(name))
    found = find_model("imagenet-lite0", tmp_path)
    with pytest.raises(InputError, match=rf"Python package {package}.*pip install 'resight\[{asked}\]'"):
        choose_runtime(found, asked, tmp_path)
    with pytest.raises(InputError, match=rf"pip install 'resight\[{asked}\]'"):
        runtimes.require_writable(asked)
    assert not (tmp_path / "exports").exists()


def test_an_unknown_runtime_is_refused_before_the_model_is_loaded(tmp_path: Path) -> None:
    found = find_model("imagenet-lite0", tmp_path)
    with pytest.raises(UnknownName, match="no runtime named 'onxx': did you mean 'onnx'"):
        choose_runtime(found, "onxx", tmp_path)
