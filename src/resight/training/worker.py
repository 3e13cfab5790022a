"""One process of a run on several machines: ``python -m resight.training.worker RUN_FOLDER``.

``resight train RUN --split S --plan`` writes the plan; then a launcher starts this on every machine, such as ::

    torchrun --nnodes 2 --nproc-per-node 8 --rdzv-backend c10d --rdzv-endpoint HOST:29500 \\
        -m resight.training.worker PROJECT/runs/RUN --devices 8 --nodes 2

The workers read the plan and the chips, and never open the catalogue. The first one writes the run.
"""

from __future__ import annotations

import argparse
import logging
import sys
from pathlib import Path

from resight.errors import InputError, ResightError
from resight.training.checkpoint import CONFIG_FILE
from resight.training.loop import run
from resight.training.plan import read_plan
from resight.training.processes import make_fabric
from resight.training.tracking import check_trackers

logger = logging.getLogger(__name__)


def main(arguments: list[str] | None = None) -> int:
    """Train as one of the processes; gives the exit code."""
    parser = argparse.ArgumentParser(prog="python -m resight.training.worker", description="One process of a run.")
    parser.add_argument("folder", type=Path, metavar="RUN_FOLDER")
    parser.add_argument("--devices", type=int, default=1, help="processes on this machine")
    parser.add_argument("--nodes", type=int, default=1, help="machines")
    parser.add_argument("--device", choices=("cpu", "cuda"), help="default: an accelerator where there is one")
    parser.add_argument("--resume", action="store_true", help="go on with the run that is in the folder")
    given = parser.parse_args(arguments)
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    try:
        if not given.resume and (given.folder / CONFIG_FILE).exists():
            raise InputError(f"{given.folder} holds a run that has begun: go on with it (--resume)")
        job = read_plan(given.folder, resume=given.resume)
        check_trackers(job.trackers)
        fabric = make_fabric(
            devices=given.devices, nodes=given.nodes, device=given.device, precision=job.recipe.precision, spawn=False
        )
        fabric.launch()
        run(fabric, job, logging.INFO)
    except ResightError as error:
        logger.error("%s", error)
        return error.exit_code
    return 0


if __name__ == "__main__":
    sys.exit(main())
