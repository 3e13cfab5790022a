"""Where the figures of each epoch go besides the log: TensorBoard, Weights & Biases, and a picture of the curves."""

from __future__ import annotations

import secrets
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import asdict
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from resight.artefacts import atomic_path, write_text
from resight.errors import InputError, UnknownName
from resight.training.checkpoint import EpochReport

CURVES_FILE = "curves.png"
_KEPT_HERE = frozenset({"classes", "skipped"})  # of a run's config: a row an animal and a row a file

Track = Callable[[EpochReport], None]


def check_trackers(names: Sequence[str]) -> None:
    """Refuse trackers that are not known or not installed, before anything is trained.

    Raises:
        UnknownName: no tracker of that name.
        InputError: its package is not installed.
    """
    UnknownName.require("tracker", names, _TRACKERS)
    for name in names:
        package, _ = _TRACKERS[name]
        if find_spec(package) is None:
            raise InputError(f"tracker {name!r} needs a package that is not installed: pip install 'resight[{name}]'")


@contextmanager
def trackers(names: Sequence[str], run_dir: Path, config: Mapping[str, Any]) -> Iterator[list[Track]]:
    """Open trackers for the time of a run.

    Args:
        names: ``tensorboard`` or ``wandb``.
        run_dir: Its name is the run's; both write below it.
        config: The run's, for the reader; names of animals and of files stay here.
    """
    with ExitStack() as stack:
        yield [stack.enter_context(_TRACKERS[name][1](run_dir, config)) for name in names]


def draw_curves(run_dir: Path, reports: Sequence[EpochReport]) -> None:
    """Draw loss, accuracy and learning rates over the epochs into ``curves.png``."""
    from matplotlib.figure import Figure

    epochs = [report.epoch for report in reports]
    figure = Figure(figsize=(10, 3.2), layout="constrained")
    loss, accuracy, rate = figure.subplots(1, 3)
    loss.plot(epochs, [report.loss for report in reports])
    loss.set(title="training loss", xlabel="epoch")
    accuracy.plot(epochs, [report.top1 for report in reports], label="training chips, nearest class")
    if any(report.validation_top1 is not None for report in reports):
        accuracy.plot(epochs, [report.validation_top1 for report in reports], label="held out, one-vs-all")
    accuracy.set(title="top-1, percent", xlabel="epoch", ylim=(0, 100))
    accuracy.legend(loc="lower right", fontsize="small")
    rate.plot(epochs, [report.learning_rate for report in reports], label="backbone")
    rate.plot(epochs, [report.head_learning_rate for report in reports], label="head")
    rate.set(title="learning rate", xlabel="epoch", yscale="log")
    rate.legend(loc="lower left", fontsize="small")
    with atomic_path(run_dir / CURVES_FILE) as temporary:
        figure.savefig(temporary, format="png", dpi=110)


def _figures(report: EpochReport) -> dict[str, float]:
    return {name: value for name, value in asdict(report).items() if name != "epoch" and value is not None}


@contextmanager
def _tensorboard(run_dir: Path, config: Mapping[str, Any]) -> Iterator[Track]:
    from torch.utils.tensorboard import SummaryWriter

    with SummaryWriter(str(run_dir / "tensorboard")) as writer:

        def track(report: EpochReport) -> None:
            for name, value in _figures(report).items():
                writer.add_scalar(name, value, report.epoch)
            writer.flush()

        yield track


@contextmanager
def _wandb(run_dir: Path, config: Mapping[str, Any]) -> Iterator[Track]:
    import wandb

    sent = {name: value for name, value in config.items() if name not in _KEPT_HERE}
    # A resumed run goes on with its curve; another run of the same name has one of its own.
    id_file = run_dir / "wandb-id.txt"
    if not id_file.is_file():
        write_text(id_file, secrets.token_hex(8))
    with wandb.init(
        project="resight", name=run_dir.name, id=id_file.read_text(encoding="utf-8"), resume="allow",
        dir=str(run_dir), config=sent,
    ) as run:  # fmt: skip
        yield lambda report: run.log(_figures(report), step=report.epoch)


_Opener = Callable[[Path, Mapping[str, Any]], AbstractContextManager[Track]]
_TRACKERS: Mapping[str, tuple[str, _Opener]] = {
    "tensorboard": ("tensorboard", _tensorboard),
    "wandb": ("wandb", _wandb),
}
