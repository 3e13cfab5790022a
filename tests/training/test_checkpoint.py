from __future__ import annotations

import json
import signal
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from resight.errors import ArtefactMismatch, TrainingError
from resight.models.weights import new_embedder
from resight.training import checkpoint, loop

from .drawn import draw_samples
from .runs import QUICK, same, trained, weights_of

KILLED = """
import json, os, signal, sys
from pathlib import Path
import torch
from drawn import draw_samples
from resight.training import loop
from resight.training.recipe import Recipe

torch.set_num_threads(1)
folder, recipe = Path(sys.argv[1]), Recipe.from_json(json.loads(sys.argv[2]))
samples = draw_samples(folder / "chips", identities=4, chips=5, size=32)
apply_changes = loop.apply_changes
parts = 0

def killed_at(last):
    def change_and_die(*arguments, **keywords):
        global parts
        parts += 1
        if parts > last:
            os.kill(os.getpid(), signal.SIGKILL)
        return apply_changes(*arguments, **keywords)
    return change_and_die

for last in map(int, sys.argv[3:]):
    if (child := os.fork()) == 0:
        loop.apply_changes = killed_at(last)
        loop.train(loop.Job(samples, recipe, folder / f"killed-{last}"), device="cpu")
    print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
"""
KILLED_AT = {3: None, 17: (1, 3)}  # parts of batches that were learned from → epoch and batch of the checkpoint


def test_killed_in_mid_epoch_and_resumed_ends_in_the_same_weights(tmp_path: Path) -> None:
    recipe = replace(
        QUICK, image_size=32, epochs=3, checkpoint_every_steps=2, backbone="test_vit", accumulate=2, mirror="new",
        ema_decay=0.9, gradient_clip=1.0, species_weight=0.1, schedule="exponential",
    )  # fmt: skip
    samples = draw_samples(tmp_path / "chips", identities=4, chips=5, size=32)  # 5 batches an epoch
    whole = trained(samples, recipe, tmp_path / "whole")

    command = [sys.executable, "-c", KILLED, str(tmp_path), json.dumps(recipe.to_json()), *map(str, KILLED_AT)]
    killed = subprocess.run(command, cwd=Path(__file__).parent, check=False, capture_output=True, text=True)
    assert killed.stdout.split() == [str(-signal.SIGKILL)] * len(KILLED_AT), killed.stderr

    for last, checkpointed in KILLED_AT.items():
        run = tmp_path / f"killed-{last}"
        assert not (run / "model").exists()
        state = checkpoint.read_checkpoint(run)
        assert (None if state is None else (state[0].epoch, state[0].batch)) == checkpointed
        resumed = trained(samples, recipe, run, resume=True)
        assert same(weights_of(whole), weights_of(resumed))
        assert (resumed.final_loss, resumed.epochs) == (whole.final_loss, 3)
        logs = [(tmp_path / name / "log.csv").read_text(encoding="utf-8").splitlines() for name in ("whole", run.name)]
        columns = [[line.split(",")[:7] for line in log] for log in logs]  # all but the times
        assert columns[0] == columns[1]


def test_random_numbers_of_the_network_go_on_where_they_were(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    samples = draw_samples(tmp_path / "chips", identities=3, chips=4)
    recipe = replace(QUICK, checkpoint_every_steps=2)
    steps_left = 1000

    def drop_pixels(chips: torch.Tensor, changes: object, *, mirrored: object) -> torch.Tensor:
        """Stands for dropout: draws from torch's global generator."""
        nonlocal steps_left
        steps_left -= 1
        if steps_left < 0:
            raise KeyboardInterrupt
        return chips * (torch.rand(chips.shape) > 0.2)

    monkeypatch.setattr(loop, "apply_changes", drop_pixels)
    whole = trained(samples, recipe, tmp_path / "whole")
    steps_left = 5
    with pytest.raises(KeyboardInterrupt):
        trained(samples, recipe, tmp_path / "stopped")
    steps_left = 1000
    torch.manual_seed(123)
    assert same(weights_of(whole), weights_of(trained(samples, recipe, tmp_path / "stopped", resume=True)))


def test_resuming_a_finished_run_trains_no_more(tmp_path: Path) -> None:
    samples = draw_samples(tmp_path / "chips", identities=2, chips=3)
    first = trained(samples, QUICK, tmp_path / "run")
    before = weights_of(first)
    (first.model / "model.safetensors").unlink()  # as if killed before it was written
    again = trained(samples, QUICK, tmp_path / "run", resume=True)
    assert again == first
    assert same(before, weights_of(again))


def test_a_resumed_run_must_be_the_same_run(tmp_path: Path) -> None:
    samples = draw_samples(tmp_path / "chips", identities=3, chips=3)
    trained(samples, replace(QUICK, epochs=1), tmp_path / "run")
    recipe = replace(QUICK, epochs=1)
    with pytest.raises(ArtefactMismatch, match=r"recipe\.epochs was 1 and is 2 now"):
        trained(samples, QUICK, tmp_path / "run", resume=True)
    changed = replace(recipe, augment=replace(recipe.augment, shift=0.2))
    with pytest.raises(ArtefactMismatch, match=r"recipe\.augment\.shift was 0\.08 and is 0\.2 now"):
        trained(samples, changed, tmp_path / "run", resume=True)
    with pytest.raises(ArtefactMismatch, match=r"samples\.annotations was 9 and is 8 now"):
        trained(samples[1:], recipe, tmp_path / "run", resume=True)
    renamed = [*samples[:-1], replace(samples[-1], identity=samples[2].identity)]
    with pytest.raises(ArtefactMismatch, match=r"samples\.key was"):
        trained(renamed, recipe, tmp_path / "run", resume=True)
    start = new_embedder("test_resnet", weights="none", image_size=64)
    with pytest.raises(ArtefactMismatch, match="initial_weights_hash"):
        trained(samples, recipe, tmp_path / "run", initial=start, resume=True)
    other = draw_samples(tmp_path / "other", identities=2, chips=2)
    with pytest.raises(ArtefactMismatch, match=r"recipe\.held_out was None and is '"):
        trained(samples, recipe, tmp_path / "run", held_out=other, resume=True)
    trained(samples, recipe, tmp_path / "scored", held_out=other)
    assert trained(samples[::-1], recipe, tmp_path / "scored", held_out=other[::-1], resume=True).epochs == 1
    with pytest.raises(ArtefactMismatch, match=r"teachers was \[\] and is \['old'\] now"):
        trained(samples, recipe, tmp_path / "run", origin={"teachers": ["old"]}, resume=True)
    free = replace(recipe, name="mine", checkpoint_every_steps=1, loader_workers=None, compile=True)
    assert trained(samples, free, tmp_path / "run", resume=True).epochs == 1


@pytest.mark.parametrize(
    "fault",
    [
        OSError(28, "No space left on device"),
        RuntimeError("[enforce fail at inline_container.cc:664] . unexpected pos"),
    ],
    ids=["the system's", "torch's"],
)
def test_a_full_disk_is_one_line_and_leaves_the_older_checkpoint(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, fault: Exception
) -> None:
    samples = draw_samples(tmp_path / "chips", identities=2, chips=4)
    true_save = torch.save
    saved = 0

    def full_disk(value: object, path: Path) -> None:
        nonlocal saved
        saved += 1
        if saved == 2:
            path.write_bytes(b"half of it")
            raise fault
        true_save(value, path)

    monkeypatch.setattr(checkpoint.torch, "save", full_disk)
    with pytest.raises(TrainingError, match=r"cannot be written to .*checkpoint \(.*\): make room .*--resume") as error:
        trained(samples, QUICK, tmp_path / "run")
    assert "\n" not in str(error.value)
    monkeypatch.setattr(checkpoint.torch, "save", true_save)
    assert [file.name for file in (tmp_path / "run" / "checkpoint").iterdir()] == ["state.pt"]
    whole = trained(samples, QUICK, tmp_path / "whole")
    assert same(weights_of(trained(samples, QUICK, tmp_path / "run", resume=True)), weights_of(whole))


def test_a_broken_checkpoint_is_one_clear_line(tmp_path: Path) -> None:
    samples = draw_samples(tmp_path / "chips", identities=2, chips=2)
    trained(samples, replace(QUICK, epochs=1), tmp_path / "run")
    (tmp_path / "run" / "checkpoint" / "state.pt").write_bytes(b"torn")
    with pytest.raises(ArtefactMismatch, match=r"state\.pt cannot be read") as error:
        trained(samples, replace(QUICK, epochs=1), tmp_path / "run", resume=True)
    assert "\n" not in str(error.value)
