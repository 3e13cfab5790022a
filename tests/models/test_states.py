from __future__ import annotations

import re
from pathlib import Path
from random import Random

import pytest
import timm
import torch
from torch import Tensor

from resight.errors import ArtefactMismatch, InputError
from resight.models.states import classifier_of, hash_of_weights, load_backbone, read_state, without

SWIN = "swin_tiny_patch4_window7_224"


def small(name: str, **settings: object) -> torch.nn.Module:
    return timm.create_model(name, pretrained=False, num_classes=0, **settings).eval()


def named_as_before_timm_0_9(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """The halving between two stages of a Swin belonged to the earlier one, and two buffers were stored."""

    def earlier(match: re.Match[str]) -> str:
        return f"layers.{int(match[1]) - 1}.downsample"

    old = {re.sub(r"layers\.(\d+)\.downsample", earlier, name): tensor for name, tensor in state.items()}
    old["layers.0.blocks.1.attn_mask"] = torch.zeros(64, 49, 49)
    old["layers.0.blocks.0.attn.relative_position_index"] = torch.zeros(49, 49, dtype=torch.long)
    return old


def test_names_of_older_releases_of_timm_are_taken() -> None:
    theirs, ours = small(SWIN), small(SWIN)
    old = named_as_before_timm_0_9(theirs.state_dict())
    assert "layers.0.downsample.reduction.weight" in old
    assert "layers.3.downsample.reduction.weight" not in old
    load_backbone(ours, old, SWIN, where="x", resize=False)
    assert hash_of_weights(ours.state_dict()) == hash_of_weights(theirs.state_dict())


def test_a_table_of_another_size_is_resized_only_where_that_is_asked_for() -> None:
    state = small("test_vit").state_dict()
    smaller = small("test_vit", img_size=64)
    before = hash_of_weights(smaller.state_dict())
    with pytest.raises(ArtefactMismatch, match=r"pos_embed is \(1, 101, 64\) there and \(1, 17, 64\) in the network"):
        load_backbone(smaller, state, "test_vit", where="x", resize=False)
    assert hash_of_weights(smaller.state_dict()) == before
    load_backbone(smaller, state, "test_vit", where="x", resize=True)
    assert torch.equal(smaller.state_dict()["norm.weight"], state["norm.weight"])
    assert torch.equal(smaller.state_dict()["blocks.0.attn.qkv.weight"], state["blocks.0.attn.qkv.weight"])


@pytest.mark.parametrize("resize", [True, False])
def test_a_tensor_that_is_missing_is_not_made_up(resize: bool) -> None:
    state = small("test_vit").state_dict()
    del state["blocks.0.attn.qkv.weight"]
    with pytest.raises(ArtefactMismatch, match=r"missing blocks\.0\.attn\.qkv\.weight"):
        load_backbone(small("test_vit"), state, "test_vit", where="x", resize=resize)


def test_modules_are_left_out_whole() -> None:
    one = torch.zeros(1)
    state = {"head.fc.weight": one, "head.norm.weight": one, "header.weight": one, "head": one}
    assert list(without(state, ("head.fc",))) == ["head.norm.weight", "header.weight", "head"]
    assert list(without(state, ("head",))) == ["header.weight", "head"]
    assert without(state, ()) == state
    assert classifier_of("test_convnext") == ("head.fc",)
    assert classifier_of("efficientnetv2_rw_m") == ("classifier",)


class Planted:
    """Runs code when it is unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[object, tuple[object, ...]]:
        return Path.touch, (self.path,)


def test_code_in_a_weights_file_is_not_run(tmp_path: Path) -> None:
    path = tmp_path / "pytorch_model.bin"
    torch.save({"weight": torch.zeros(1), "extra": Planted(tmp_path / "ran")}, path)
    with pytest.raises(InputError, match=r"cannot be read \(.*\): take another$") as error:
        read_state(path, remedy="take another")
    assert "\n" not in str(error.value)
    assert not (tmp_path / "ran").exists()
    torch.load(path, weights_only=False)
    assert (tmp_path / "ran").exists()  # so the file was a danger


@pytest.mark.filterwarnings("ignore:Detected pickle protocol")
@pytest.mark.parametrize("zipped", [True, False])
def test_a_damaged_file_is_one_line(tmp_path: Path, zipped: bool) -> None:
    path = tmp_path / "weights.pt"
    torch.save({"a": torch.zeros(4), "b": torch.ones(2, 2)}, path, _use_new_zipfile_serialization=zipped)
    whole = path.read_bytes()
    random, said = Random(0), []
    for number in range(300):
        damaged = bytearray(whole[: random.randrange(len(whole))] if number % 3 == 0 else whole)
        for _ in range(random.randrange(1, 4) if damaged else 0):
            damaged[random.randrange(len(damaged))] = random.randrange(256)
        path.write_bytes(damaged)
        try:
            read_state(path, remedy="take another")
        except InputError as error:
            said.append(str(error))
    assert len(said) > 100
    assert not any("\n" in line for line in said)


def test_what_is_no_state_dict_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "weights.pt"
    for content in ({0: torch.zeros(1)}, {"state_dict": {"a": torch.zeros(1)}}, [torch.zeros(1)]):
        torch.save(content, path)
        with pytest.raises(InputError, match="holds no state dict"):
            read_state(path, remedy="take another")
