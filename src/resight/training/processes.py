"""Several processes that train one model: each takes its share of every batch through the backbone, and all of them
see the whole batch's features, so that the neck, the head and the loss are those of a single process.

What stays a process's own is the BatchNorm inside the backbone; on accelerators it is synchronised.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence, Sized
from contextlib import contextmanager
from typing import Any

import torch
from lightning_fabric import Fabric
from timm.layers import convert_sync_batchnorm
from torch import Tensor, nn
from torch.multiprocessing.spawn import ProcessRaisedException

from resight import errors
from resight.errors import InputError
from resight.models.embedder import Embedder
from resight.training.recipe import Recipe


class Trunk(nn.Module):
    """The part of an embedder that is shared out: backbone and pooling, chips in and features out."""

    def __init__(self, embedder: Embedder) -> None:
        super().__init__()
        self.backbone = embedder.backbone
        self.pooling = embedder.pooling
        self._embedder = (embedder,)  # in a tuple, so that its neck is no parameter of this module

    def forward(self, chips: Tensor) -> Tensor:
        """Turn (n, 3, N, N) uint8 into (n, dim) float32."""
        return self._embedder[0].pool(chips)


def make_fabric(*, devices: int, device: str | None, precision: str, nodes: int = 1, spawn: bool = True) -> Fabric:
    """The launcher and the place of computation.

    Args:
        devices: Processes on this machine.
        device: ``cpu`` or ``cuda``; ``None``: an accelerator where there is one.
        precision: The recipe's.
        nodes: Machines.
        spawn: Whether this process starts the others, rather than a launcher that has started them all.

    Raises:
        InputError: more devices than there are.
    """
    kind = device or ("cuda" if torch.cuda.is_available() else "cpu")
    if kind == "cuda" and devices > torch.cuda.device_count():
        raise InputError(f"--devices {devices}: this machine has {torch.cuda.device_count()} GPUs")
    several = devices * nodes > 1
    half = precision == "bfloat16" or (precision == "auto" and kind == "cuda")
    logging.getLogger("lightning_fabric").setLevel(logging.WARNING)  # it tells what it was told
    return Fabric(
        accelerator=kind,
        devices=devices,
        num_nodes=nodes,
        strategy=("ddp_spawn" if spawn else "ddp") if several else "auto",
        precision="bf16-mixed" if half else "32-true",
    )


@contextmanager
def errors_of_processes() -> Iterator[None]:
    """Raise what a process of ours raised as if it had been raised here: one line instead of its traceback."""
    try:
        yield
    except ProcessRaisedException as raised:
        kind, _, message = str(raised).strip().splitlines()[-1].partition(": ")
        module, _, name = kind.rpartition(".")
        if module != errors.__name__:
            raise
        raise getattr(errors, name)(message) from None


def share_out(fabric: Fabric, embedder: Embedder, *, compile: bool) -> Any:
    """Give the shared part of an embedder that is on the fabric's device, ready to be called.

    Returns:
        A module from (n, 3, N, N) uint8 to (n, dim) float32, under the recipe's precision.
    """
    if fabric.world_size > 1 and fabric.device.type == "cuda":
        embedder.backbone = convert_sync_batchnorm(embedder.backbone)  # type: ignore[no-untyped-call]
    trunk: Any = Trunk(embedder)
    if compile:
        # An epoch has batches of at most two sizes: a network for each is faster than one for any.
        trunk = torch.compile(trunk, dynamic=False)
    return fabric.setup_module(trunk)


def require_two_chips_each(fabric: Fabric, batches: Sequence[Sized], recipe: Recipe) -> None:
    """Refuse batches of which a process would get a single chip at a time, or none.

    Raises:
        InputError: naming what to change.
    """
    smallest = min(len(rows) for rows in batches)
    if smallest < 2 * recipe.accumulate * fabric.world_size:
        raise InputError(
            f"a batch of {smallest} chips in {recipe.accumulate} parts for {fabric.world_size} processes leaves fewer "
            "than two chips at a time: raise batch_size, or lower accumulate or --devices"
        )


def average_gradients(fabric: Fabric, module: nn.Module) -> None:
    """Make the gradients of a module that every process computes from the same numbers the same to the bit."""
    if fabric.world_size == 1:
        return
    for weight in module.parameters():
        if weight.grad is not None:
            torch.distributed.all_reduce(weight.grad)
            weight.grad /= fabric.world_size


def whole_batch(fabric: Fabric, own: Tensor, n: int) -> Tensor:
    """Gather the features of a batch that was dealt out row by row (row i to process i modulo their number).

    The gradient of a loss over the whole batch reaches each process's own rows, times the number of processes, since
    their gradients are averaged afterwards and not summed.

    Args:
        fabric: Knows the other processes.
        own: (n_own, dim), this process's rows.
        n: Rows of the whole batch.

    Returns:
        (n, dim) in the batch's order.
    """
    processes = fabric.world_size
    if processes == 1:
        return own
    longest = -(-n // processes)
    padded = own.new_zeros((longest, own.shape[1]))
    padded[: len(own)] = own.detach()
    of_process = [torch.empty_like(padded) for _ in range(processes)]
    torch.distributed.all_gather(of_process, padded)
    if own.requires_grad:
        own.register_hook(lambda gradient: gradient * processes)  # type: ignore[no-untyped-call]
    pieces = [own if rank == fabric.global_rank else of_process[rank] for rank in range(processes)]
    counts = [len(range(rank, n, processes)) for rank in range(processes)]
    stacked = torch.cat([piece[:count] for piece, count in zip(pieces, counts, strict=True)])
    order = torch.cat([torch.arange(rank, n, processes) for rank in range(processes)]).argsort()
    return stacked[order.to(own.device)]
