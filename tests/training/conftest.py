"""Settings for the tests of training."""

from __future__ import annotations

import pytest
import torch

from resight.training import loop


@pytest.fixture(autouse=True)
def one_thread() -> None:
    """With several threads the order of sums, and so the last bits, may differ."""
    torch.set_num_threads(1)


@pytest.fixture(autouse=True)
def no_curves(monkeypatch: pytest.MonkeyPatch) -> None:
    """Drawing the curves takes longer than training; test_tracking.py and the test of what a run leaves draw them."""
    monkeypatch.setattr(loop, "draw_curves", lambda run_dir, reports: None)
