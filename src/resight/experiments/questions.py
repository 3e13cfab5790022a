"""The experiments by the names that the command line has for them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from resight.experiments import (
    backbones,
    bootstrap,
    finetune,
    gallery_size,
    leave_one_out,
    multi_vs_single,
    reproduce_paper,
    zero_shot,
)
from resight.experiments.answer import Answer
from resight.experiments.given import Given
from resight.experiments.plan import Asked, LeftOut, RunSpec
from resight.experiments.results import Results


@dataclass(frozen=True)
class Experiment:
    """One question.

    Attributes:
        question: In one sentence.
        runs: Its runs, from what is given and what was asked.
        answer: Its tables and figures, from what the runs gave.
        left_out: What of the question cannot be answered.
        targets: Whether ``--species`` names what is asked about while all others join in.
    """

    question: str
    runs: Callable[[Given, Asked], tuple[RunSpec, ...]]
    answer: Callable[[Given, Asked, Results], Answer]
    left_out: Callable[[Given, Asked], tuple[LeftOut, ...]] = lambda given, asked: ()
    targets: bool = False


EXPERIMENTS: Mapping[str, Experiment] = {
    "multi-vs-single": Experiment(multi_vs_single.QUESTION, multi_vs_single.runs, multi_vs_single.answer),
    "leave-one-out": Experiment(leave_one_out.QUESTION, leave_one_out.runs, leave_one_out.answer),
    "zero-shot": Experiment(zero_shot.QUESTION, zero_shot.runs, zero_shot.answer, zero_shot.left_out),
    "bootstrap": Experiment(bootstrap.QUESTION, bootstrap.runs, bootstrap.answer, bootstrap.left_out, targets=True),
    "gallery-size": Experiment(gallery_size.QUESTION, gallery_size.runs, gallery_size.answer),
    "finetune": Experiment(finetune.QUESTION, finetune.runs, finetune.answer, finetune.left_out, targets=True),
    "backbones": Experiment(backbones.QUESTION, backbones.runs, backbones.answer),
    "reproduce-paper": Experiment(
        reproduce_paper.QUESTION, reproduce_paper.runs, reproduce_paper.answer, reproduce_paper.left_out
    ),
}
