"""Training images a second of the engine, against the loop of the paper's public code on the same chips.

Peer: float32, NCHW, eager, Adam, one sub-center ArcFace, chips loaded from their files by worker processes and changed
one by one with torchvision before they are normalised. Ours: ``resight.training.loop`` with the recipe's augmentation,
channels_last, bfloat16 on an accelerator. Both train the same backbone on the same drawn chips, cached on disk.

    python benchmarks/bench_training.py [--backbone B] [--size 256] [--batch 112] [--steps 30] [--compile] [--profile]

On a CPU the defaults shrink to a network that fits it. Exits 1 where the aim (3 times the peer) is missed on a GPU.
"""

from __future__ import annotations

import argparse
import os
import statistics
import sys
import tempfile
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from torch.profiler import ProfilerActivity, profile
from torch.utils.data import DataLoader, Dataset
from torchvision.transforms import v2

from resight.models.heads import SubCenterArcFace, spread_margins
from resight.models.weights import new_embedder
from resight.training.checkpoint import EpochReport
from resight.training.chipset import TrainingSample
from resight.training.loop import Job, train
from resight.training.presets import TUNED

AIM = 3.0


class PlainChips(Dataset):
    """One chip at a time, changed by a chain of transforms, normalised on the CPU."""

    def __init__(self, samples: list[TrainingSample]) -> None:
        self.samples = samples
        self.change = v2.Compose(
            [
                v2.RandomAffine(15, translate=(0.1, 0.1), scale=(0.8, 1.2)),
                v2.ColorJitter(0.3, 0.3, 0.3, 0.03),
                v2.ToDtype(torch.float32, scale=True),
                v2.Normalize([0.485, 0.456, 0.406], [0.229, 0.224, 0.225]),
                v2.RandomErasing(0.5, scale=(0.02, 0.2)),
            ]
        )

    def __len__(self) -> int:
        """How many there are."""
        return len(self.samples)

    def __getitem__(self, row: int) -> tuple[torch.Tensor, int]:
        """(3, N, N) float32, and the class."""
        sample = self.samples[row]
        chip = torch.from_numpy(np.load(sample.chip_path)).permute(2, 0, 1)
        return self.change(chip), int(sample.identity)


class Plain(torch.nn.Module):
    """Backbone, GeM and BatchNorm on normalised floats, in NCHW memory."""

    def __init__(self, backbone: str, size: int) -> None:
        super().__init__()
        made = new_embedder(backbone, weights="none", image_size=size)
        self.backbone, self.pooling, self.bn = made.backbone, made.pooling, made.bn
        self.to(memory_format=torch.contiguous_format)

    def forward(self, pixels: torch.Tensor) -> torch.Tensor:
        """(n, 3, N, N) float32 to (n, dim)."""
        embeddings: torch.Tensor = self.bn(self.pooling(self.backbone(pixels)))
        return embeddings


def peer_rate(samples: list[TrainingSample], backbone: str, size: int, batch: int, steps: int, device: str) -> float:
    """Images a second of the plain loop, the first steps not counted."""
    torch.manual_seed(0)
    classes = len({sample.identity for sample in samples})
    network = Plain(backbone, size).to(device).train()
    head = SubCenterArcFace(network.bn.num_features, spread_margins([4] * classes), centres=3, scale=51.5).to(device)
    optimiser = torch.optim.Adam([*network.parameters(), *head.parameters()], lr=1e-4)
    workers = min(16, os.cpu_count() or 1)
    loader = DataLoader(
        PlainChips(samples), batch, shuffle=True, drop_last=True, num_workers=workers, persistent_workers=True
    )
    times, done = [], 0
    began = time.perf_counter()
    while len(times) < steps:
        for pixels, labels in loader:
            truth = labels.to(device)
            loss = torch.nn.functional.cross_entropy(head(network(pixels.to(device)), truth), truth)
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()
            loss.item()
            now = time.perf_counter()
            if done >= 3:
                times.append(now - began)
            done, began = done + 1, now
            if len(times) == steps:
                break
    return batch / statistics.mean(times)


def our_rate(
    samples: list[TrainingSample],
    backbone: str,
    size: int,
    batch: int,
    steps: int,
    folder: Path,
    compiled: bool,
    profiled: bool,
) -> tuple[float, float, float]:
    """Images a second of the second epoch on, share of time waiting in percent, memory in MiB.

    Where it is profiled, the kernels of the second epoch are printed and the figures are of the epochs after it.
    """
    epochs = max(4, 1 + -(-steps * batch // len(samples)))
    recipe = replace(
        TUNED, backbone=backbone, weights="none", image_size=size, batch_size=batch, epochs=epochs, warmup_epochs=1.0,
        precision="bfloat16" if torch.cuda.is_available() else "float32", compile=compiled,
    )  # fmt: skip
    reports: list[EpochReport] = []
    kernels = profile(activities=[ProfilerActivity.CUDA if torch.cuda.is_available() else ProfilerActivity.CPU])

    def on_epoch(report: EpochReport) -> None:
        reports.append(report)
        if profiled and report.epoch == 1:
            kernels.start()
        if profiled and report.epoch == 2:
            kernels.stop()

    train(Job(samples, recipe, folder, on_epoch=on_epoch))
    if profiled:
        print(kernels.key_averages().table(sort_by="self_cuda_time_total", row_limit=25, max_name_column_width=90))
    later = reports[2 if profiled else 1 :]
    seconds = sum(report.seconds for report in later)
    waited = sum(report.waiting_percent * report.seconds for report in later) / seconds
    return sum(report.images for report in later) / seconds, waited, later[-1].memory_mib


def main() -> int:
    """Draw chips, time both, print."""
    on_gpu = torch.cuda.is_available()
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--backbone", default="efficientnetv2_rw_m" if on_gpu else "tf_efficientnet_lite0")
    parser.add_argument("--size", type=int, default=256 if on_gpu else 128)
    parser.add_argument("--batch", type=int, default=112 if on_gpu else 32)
    parser.add_argument("--steps", type=int, default=30 if on_gpu else 8)
    parser.add_argument("--compile", action="store_true")
    parser.add_argument("--profile", action="store_true", help="print where the time of an epoch of ours goes")
    arguments = parser.parse_args()
    device = "cuda" if on_gpu else "cpu"
    name = torch.cuda.get_device_name() if on_gpu else f"CPU, {torch.get_num_threads()} threads"
    with tempfile.TemporaryDirectory() as folder:
        rng = np.random.default_rng(0)
        samples = []
        for number in range(arguments.batch * 8):
            path = Path(folder) / f"{number}.npy"
            np.save(path, rng.integers(0, 256, (arguments.size, arguments.size, 3), dtype=np.uint8))
            samples.append(TrainingSample(f"a{number:05d}", "drawn", f"{number // 4}", path))
        what = (samples, arguments.backbone, arguments.size, arguments.batch, arguments.steps)
        peer = peer_rate(*what, device)
        ours, waited, memory = our_rate(*what, Path(folder) / "run", arguments.compile, arguments.profile)
    print(f"{name}; {arguments.backbone}, {arguments.size} px, batch {arguments.batch}")
    print(f"peer {peer:.1f} images/s; ours {ours:.1f} images/s: {ours / peer:.2f} x")
    print(f"ours waited {waited:.1f} % of the time for chips, {memory:.0f} MiB at most")
    return int(on_gpu and ours < AIM * peer)


if __name__ == "__main__":
    sys.exit(main())
