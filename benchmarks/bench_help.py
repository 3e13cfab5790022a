"""How soon ``resight --help`` answers when warm, against a Python that does nothing: medians of whole processes.

    python benchmarks/bench_help.py

Exits 1 where the aim (under 0.5 s) is missed.
"""

from __future__ import annotations

import statistics
import subprocess
import sys
import time

AIM_SECONDS, ROUNDS = 0.5, 9


def median_seconds(command: list[str]) -> float:
    """Median wall time of a command over ``ROUNDS`` runs, after one that warms up."""
    seconds = []
    for _ in range(ROUNDS + 1):
        started = time.perf_counter()
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
        seconds.append(time.perf_counter() - started)
    return statistics.median(seconds[1:])


def main() -> int:
    """Measure, print."""
    nothing = median_seconds([sys.executable, "-c", "pass"])
    ours = median_seconds([sys.executable, "-c", "from resight.cli import main; main()", "--help"])
    reached = ours < AIM_SECONDS
    print(f"resight --help {ours:.2f} s, python -c pass {nothing:.2f} s ({ours / nothing:.1f} times)")
    print(f"aim: under {AIM_SECONDS} s: {'reached' if reached else 'missed'}")
    return 0 if reached else 1


if __name__ == "__main__":
    sys.exit(main())
