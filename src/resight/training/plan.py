"""A training job as files, for processes that never open the catalogue: other machines, other GPUs.

``runs/RUN/`` holds ``plan.json``, ``plan.parquet`` (a row a sample; chips by their path below the run's folder, so the
project may lie elsewhere on each machine), ``start/`` where the run begins from a model, and ``teacher-N.npy``.
"""

from __future__ import annotations

import json
import os
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from resight.artefacts import atomic_path, write_json
from resight.errors import InputError
from resight.models.embedder import Embedder
from resight.training.chipset import SkippedChip, TrainingSample
from resight.training.loop import Job
from resight.training.recipe import Recipe

PLAN_FILE = "plan.json"
SAMPLES_FILE = "plan.parquet"
START_FOLDER = "start"


def write_plan(job: Job) -> Path:
    """Write a job into its run's folder.

    Returns:
        The folder.
    """
    folder = job.run_dir
    folder.mkdir(parents=True, exist_ok=True)
    rows = [(sample, False) for sample in job.samples] + [(sample, True) for sample in job.held_out]
    columns: dict[str, list[Any]] = {
        name: [getattr(sample, name) for sample, _ in rows]
        for name in ("annotation_id", "species", "identity", "encounter", "sides_differ")
    }
    columns["chip"] = [Path(os.path.relpath(sample.chip_path, folder)).as_posix() for sample, _ in rows]
    columns["held_out"] = [held_out for _, held_out in rows]
    with atomic_path(folder / SAMPLES_FILE) as temporary:
        pq.write_table(pa.table(columns), temporary)
    if job.initial is not None:
        job.initial.save(folder / START_FOLDER)
    for number, vectors in enumerate(job.teachers):
        with atomic_path(folder / _teacher(number)) as temporary, temporary.open("wb") as file:
            np.save(file, np.stack([vectors[sample.annotation_id] for sample in job.samples]))
    write_json(
        folder / PLAN_FILE,  # last: a folder without it holds no plan
        {
            "recipe": job.recipe.to_json(),
            "origin": dict(job.origin),
            "left_out": [asdict(one) for one in job.left_out],
            "starts_from_model": job.initial is not None,
            "teachers": len(job.teachers),
            "trackers": list(job.trackers),
        },
    )
    return folder


def read_plan(folder: Path, *, resume: bool) -> Job:
    """Read a job that ``write_plan`` wrote.

    Args:
        folder: The run's.
        resume: Whether the job goes on with its run.

    Raises:
        InputError: the folder holds no plan.
    """
    try:
        plan = json.loads((folder / PLAN_FILE).read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise InputError(f"{folder} holds no {PLAN_FILE}: write it with resight train RUN --split S --plan") from None
    samples: list[TrainingSample] = []
    held_out: list[TrainingSample] = []
    for row in pq.read_table(folder / SAMPLES_FILE).to_pylist():
        path = Path(os.path.normpath(folder / row.pop("chip")))
        (held_out if row.pop("held_out") else samples).append(TrainingSample(chip_path=path, **row))
    names = [sample.annotation_id for sample in samples]
    vectors = [np.load(folder / _teacher(number), mmap_mode="r") for number in range(plan["teachers"])]
    return Job(
        samples=samples,
        recipe=Recipe.from_json(plan["recipe"]),
        run_dir=folder,
        initial=Embedder.load(folder / START_FOLDER) if plan["starts_from_model"] else None,
        held_out=held_out,
        teachers=[dict(zip(names, rows, strict=True)) for rows in vectors],
        left_out=[SkippedChip(**one) for one in plan["left_out"]],
        origin=plan["origin"],
        trackers=plan["trackers"],
        resume=resume,
    )


def _teacher(number: int) -> str:
    return f"teacher-{number}.npy"
