from __future__ import annotations

import ast
import inspect
import json
import os
import sys
from collections.abc import Callable
from dataclasses import fields, replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import huggingface_hub
import numpy as np
import pytest
import torch
from huggingface_hub import ModelCard
from huggingface_hub.errors import HfHubHTTPError
from PIL import Image

from resight.errors import InputError, ResightError
from resight.models import modeling_resight, publishing
from resight.models.config import EmbedderConfig, read_config
from resight.models.embedder import Embedder
from resight.models.library import find_model
from resight.models.model_card import CataloguedSpecies, RunRecord, hub_licence, model_card
from resight.models.publishing import MODULE_FILE, publish, read_evaluations
from resight.models.weights import new_embedder

FILES = ("README.md", "config.json", "model.safetensors", "modeling_resight.py", "preprocessor_config.json")
SIZE = 64

RUN_CONFIG: dict[str, Any] = {
    "run": "r",
    "split": "s",
    "teachers": ["/home/alice/teacher-run/model", "hub:o/teacher"],
    "recipe": {
        "name": "paper",
        "backbone": "test_efficientnet",
        "weights": "/home/alice/weights.safetensors",
        "epochs": 3,
        "gradient_clip": None,
        "assumed": ["epochs", "augment.hue"],
        "augment": {"hue": 0.02},
    },
    "classes": [
        {"species": "zebra", "identity": "Zoe|left", "annotations": 5, "mirrored": False},
        {"species": "zebra", "identity": "Zoe|right", "annotations": 1200, "mirrored": False},
        {"species": "zebra", "identity": "Zoe|left", "annotations": 5, "mirrored": True},
        {"species": "cow|top", "identity": "Berta", "annotations": 7, "mirrored": False},
    ],
    "skipped": [{"annotation_id": "a1", "chip_path": "/home/alice/kruger.jpg", "reason": "missing"}],
    "versions": {"torch": "2.9.0", "timm": "1.0.20", "python": "3.11"},
}
EVALUATION: dict[str, Any] = {
    "model": "r",
    "split": "s",
    "species": [
        {
            "species": "zebra", "queries": 1234, "individuals": 56, "excluded": 7, "top1": 81.25,
            "top1_ci95": [70.5, 90.25], "top5": 90.0, "top10": 95.0, "top20": 97.5, "map": 60.0, "top1_seen": 85.0,
            "top1_unseen": None, "unknown": 0, "without_vector": 0,
        }
    ],
    "macro": {"species": 1, "top1": 81.25, "top5": 90.0, "top10": 95.0, "top20": 97.5, "map": 60.0, "top1_seen": 85.0},
    "comparable": True,
    "warnings": ["3 photos such as /home/alice/kruger.jpg"],
}  # fmt: skip
RECORD = RunRecord(
    "r",
    RUN_CONFIG,
    (CataloguedSpecies("zebra", ("herd", "county"), "separate"), CataloguedSpecies("lion", ("cats",), "ignore")),
    (EVALUATION,),
)


@pytest.fixture(autouse=True)
def one_thread() -> None:
    torch.set_num_threads(1)


@pytest.fixture(autouse=True)
def offline(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Nothing is fetched, and the code that transformers copies goes where the test's files are."""
    from transformers import dynamic_module_utils

    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    monkeypatch.setattr(dynamic_module_utils, "HF_MODULES_CACHE", str(tmp_path / "copied-code"))
    monkeypatch.setattr(sys, "path", list(sys.path))
    monkeypatch.setenv("HF_TOKEN", "hf_made_up")


def moved(embedder: Embedder) -> Embedder:
    """As after training: it tells pictures apart, and no weight of pooling and neck is what it starts as."""
    norms = [module for module in embedder.modules() if isinstance(module, torch.nn.BatchNorm1d | torch.nn.BatchNorm2d)]
    for norm in norms:
        norm.momentum = 1.0
    with torch.no_grad():
        embedder.train()(chips_of(pictures(8)))
        for number, exponent in enumerate(embedder.pooling.parameters()):
            exponent.fill_(2.2 + number)
        if isinstance(embedder.bn, torch.nn.BatchNorm1d):
            for tensor in (embedder.bn.running_mean, embedder.bn.bias, embedder.bn.weight):
                tensor.normal_()
            embedder.bn.running_var.uniform_(0.5, 2.0)
    return embedder.eval()


def run_model(folder: Path, backbone: str = "test_efficientnet", **settings: Any) -> Path:
    torch.manual_seed(0)
    embedder = moved(new_embedder(backbone, weights="none", image_size=SIZE, **settings))
    embedder.config = replace(embedder.config, weights_source="run r, started from none (random start)")
    embedder.save(folder)
    return folder


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return run_model(tmp_path_factory.mktemp("run") / "model")


def pictures(n: int = 3) -> list[Image.Image]:
    random = np.random.default_rng(0)
    small = [Image.fromarray(random.integers(0, 256, (6, 5, 3), dtype=np.uint8)) for _ in range(n)]
    return [picture.resize((90, 70), Image.Resampling.BICUBIC) for picture in small]


def chips_of(crops: list[Image.Image]) -> torch.Tensor:
    """(n, 3, SIZE, SIZE) uint8, as resight cuts them."""
    chips = np.stack([np.asarray(crop.resize((SIZE, SIZE), Image.Resampling.BILINEAR)) for crop in crops])
    return torch.tensor(chips).permute(0, 3, 1, 2)


def cosines(first: torch.Tensor, second: torch.Tensor) -> np.ndarray[Any, Any]:
    return torch.nn.functional.cosine_similarity(first.double(), second.double()).numpy()


@pytest.mark.parametrize(
    ("backbone", "settings"),
    [
        ("test_efficientnet", {}),
        ("test_coatnet", {}),  # has buffers that are not saved, and is built for one size
        ("test_vit", {}),  # gives tokens
        ("test_efficientnet", {"gem_levels": 2, "output_stride": 16}),
        ("test_resnet", {"gem_levels": 2, "gem_columns": 2}),
        ("test_vit", {"pooling": "backbone", "neck": "none"}),
        ("test_resnet", {"neck": "none"}),
    ],
)
def test_transformers_loads_it_and_embeds_as_resight_does(
    tmp_path: Path, backbone: str, settings: dict[str, Any]
) -> None:
    from transformers import AutoImageProcessor, AutoModel

    ours = Embedder.load(run_model(tmp_path / "run", backbone, **settings))
    publish(tmp_path / "run", RECORD, str(tmp_path / "out"))
    theirs, loading = AutoModel.from_pretrained(tmp_path / "out", trust_remote_code=True, output_loading_info=True)
    assert not any(loading.values()), loading
    assert "resight" not in sys.modules[type(theirs).__module__].__dict__
    assert not theirs.training

    crops = pictures()
    processor = AutoImageProcessor.from_pretrained(tmp_path / "out")
    with torch.inference_mode():
        expected = ours(chips_of(crops))
        embedded = theirs(theirs.preprocess(crops)).pooler_output
        first_output = theirs(processor(images=crops, return_tensors="pt")["pixel_values"], return_dict=False)[0]
    assert cosines(expected[:1], expected[1:]).max() < 0.999  # the pictures differ, and so do their embeddings
    assert embedded.shape == expected.shape == (3, ours.config.dim)
    assert cosines(embedded, expected).min() > 0.999999
    assert torch.allclose(embedded, expected, rtol=1e-4, atol=1e-5)
    assert cosines(first_output, expected).min() > 0.99999  # resized by another library, which rounds otherwise


def test_the_published_network_refuses_bytes_and_takes_one_picture(tmp_path: Path, model: Path) -> None:
    from transformers import AutoModel

    publish(model, RECORD, str(tmp_path / "out"))
    theirs = AutoModel.from_pretrained(tmp_path / "out", trust_remote_code=True)
    with pytest.raises(ValueError, match=r"torch.uint8, expected normalised floats"):
        theirs(torch.zeros(1, 3, SIZE, SIZE, dtype=torch.uint8))
    assert torch.equal(theirs.preprocess(pictures()[0]), theirs.preprocess(pictures())[:1])
    half = AutoModel.from_pretrained(tmp_path / "out", trust_remote_code=True, dtype=torch.bfloat16)
    with torch.inference_mode():
        narrow, wide = (net(net.preprocess(pictures())).pooler_output for net in (half, theirs))
    assert narrow.dtype == torch.bfloat16
    assert cosines(narrow, wide).min() > 0.99


def test_the_module_stands_alone_and_knows_every_field_that_shapes_the_network(tmp_path: Path, model: Path) -> None:
    publish(model, RECORD, str(tmp_path / "out"))
    text = (tmp_path / "out" / MODULE_FILE).read_text(encoding="utf-8")
    assert text == Path(modeling_resight.__file__).read_text(encoding="utf-8")
    tree = ast.parse(text)
    imported = {node.module for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)}
    imported |= {alias.name for node in ast.walk(tree) if isinstance(node, ast.Import) for alias in node.names}
    outside = {str(name).partition(".")[0] for name in imported} - set(sys.stdlib_module_names)
    assert outside == {"numpy", "timm", "torch", "transformers"}

    known = set(inspect.signature(modeling_resight.ResightConfig.__init__).parameters)
    decided_by_the_weights_or_told_to_readers = {"pooling_p", "weights_source", "licence"}
    assert {field.name for field in fields(EmbedderConfig)} - decided_by_the_weights_or_told_to_readers <= known


def test_a_published_folder_is_a_model_of_resight(tmp_path: Path, model: Path) -> None:
    result = publish(model, RECORD, str(tmp_path / "new" / "out"), licence="cc-by-4.0")
    assert result.files == FILES
    assert (result.path, result.url, result.private) == (str(tmp_path / "new" / "out"), None, None)
    assert sorted(path.name for path in (tmp_path / "new" / "out").iterdir()) == sorted(FILES)
    original, published = Embedder.load(model), find_model(result.path, tmp_path / "runs").load()
    assert published.weights_hash == original.weights_hash == result.weights_hash
    assert published.config == replace(original.config, licence="CC-BY-4.0")
    assert read_config(model).config.licence is None  # the run is as it was
    assert [path.name for path in (tmp_path / "new").iterdir()] == ["out"]


def test_a_folder_is_readable_for_others(tmp_path: Path, model: Path) -> None:
    publish(model, RECORD, str(tmp_path / "out"))
    usual = tmp_path / "usual"
    usual.mkdir()
    assert (tmp_path / "out").stat().st_mode == usual.stat().st_mode


@pytest.mark.parametrize("there_before", [False, True])
def test_a_failure_leaves_nothing_behind(
    tmp_path: Path, model: Path, monkeypatch: pytest.MonkeyPatch, there_before: bool
) -> None:
    parent = tmp_path / "parent"
    parent.mkdir()
    if there_before:
        (parent / "out").mkdir()

    def full_disk(*_: object, **__: object) -> str:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(publishing, "model_card", full_disk)
    with pytest.raises(OSError, match="No space left"):
        publish(model, RECORD, str(parent / "out"))
    left = [path.name for path in parent.iterdir()]
    assert left == (["out"] if there_before else [])
    assert not there_before or not any((parent / "out").iterdir())
    monkeypatch.undo()
    publish(model, RECORD, str(parent / "out"))
    assert Embedder.load(parent / "out").weights_hash == Embedder.load(model).weights_hash


@pytest.mark.parametrize(
    ("target", "settings", "message"),
    [
        ("full", {}, r"full exists and is not empty"),
        ("file", {}, r"file exists and is not empty"),
        ("out", {"licence": "Apache2"}, r"--licence 'Apache2': expected an SPDX identifier"),
        ("out", {"licence": ""}, r"--licence '': expected an SPDX identifier"),
        ("out", {"licence": "MIT", "public": True}, r"--public is for the hub"),
        ("hub:o/n", {"public": True}, r"--public needs --licence"),
        ("hub:name", {}, r"'hub:name': expected hub:OWNER/NAME"),
        ("hub:a/b/c", {}, r"expected hub:OWNER/NAME"),
        ("hub:a/../c", {}, r"expected hub:OWNER/NAME"),
        ("hub:a/..", {}, r"expected hub:OWNER/NAME"),
    ],
)
def test_what_cannot_be_published_is_refused_before_anything_is_written(
    tmp_path: Path,
    model: Path,
    monkeypatch: pytest.MonkeyPatch,
    target: str,
    settings: dict[str, Any],
    message: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "mine.txt").write_text("mine", encoding="utf-8")
    (tmp_path / "file").write_text("mine", encoding="utf-8")
    with pytest.raises(InputError, match=message):
        publish(model, RECORD, target, **settings)
    assert sorted(str(path.relative_to(tmp_path)) for path in tmp_path.rglob("*")) == ["file", "full", "full/mine.txt"]


def card_of(record: RunRecord = RECORD, model: str = "FOLDER", **changes: Any) -> str:
    config = EmbedderConfig(
        "test_efficientnet", 256, SIZE, (0.5,) * 3, (0.5,) * 3, weights_source="run r, started from x (Apache-2.0)"
    )
    return model_card(
        record,
        replace(config, **changes),
        parameters=1234567,
        weights_hash="abc123",
        published="2024-05-06",
        model=model,
    )


def test_the_card_has_the_facts_of_the_run() -> None:
    lines = card_of(licence="CC-BY-4.0").splitlines()
    for line in (
        "# r: tells individual animals apart",
        "| backbone | timm `test_efficientnet`, output stride 32 |",
        "| embedding | 256 numbers, not of unit length |",
        "| picture | 64 × 64 pixels, RGB, squashed to a square |",
        "| parameters | 1,234,567 |",
        "| hash of the weights | `abc123` |",
        "| trained with | torch 2.9.0, timm 1.0.20 |",
        # Mirror images are no annotations; a species that the catalogue has no longer has no sources.
        "| cow\\|top | 7 | 1 | – | – |",
        "| zebra | 1,205 | 2 | separate | herd, county |",
        "| all | 1,212 | 3 |  |  |",
        "1 annotation had no usable picture and took no part.",
        "epochs = 3",
        "gradient_clip = none",
        "weights = weights.safetensors",
        "augment.hue = 0.02",
        "### Split `s`",
        "| zebra | 1,234 | 56 | 7 | 81.2 | 70.5 to 90.2 | 90.0 | 95.0 | 97.5 | 60.0 | 85.0 | – |",
        "| mean over species | – | – | – | 81.2 | – | 90.0 | 95.0 | 97.5 | 60.0 | 85.0 | – |",
    ):
        assert line in lines
    text = "\n".join(lines)
    assert "Recipe `paper`, on the training side of split `s`." in text
    assert "they are assumed: `epochs`, `augment.hue`." in text
    assert "It learned to repeat the cosines of: teacher-run, hub:o/teacher." in text
    assert "That holds here for: zebra." in text
    assert "The weights are under CC-BY-4.0." in text
    assert "run r, started from x (Apache-2.0)." in text
    assert "Not comparable" not in text


def test_the_card_names_no_individual_photo_or_folder() -> None:
    text = card_of()
    for secret in ("Zoe", "Berta", "kruger", "alice", "a1", "/home"):
        assert secret not in text


def test_the_card_says_what_is_not_known() -> None:
    text = card_of(RunRecord("r", {"classes": []}))
    assert "Not evaluated: nothing is known" in text
    assert "No licence is stated for the weights: all rights are reserved by default." in text
    assert "| trained with | not recorded |" in text
    trained_on_more = card_of(replace(RECORD, evaluations=({**EVALUATION, "comparable": False},)))
    assert "**Not comparable.** The run was trained on more" in trained_on_more


def test_a_name_cannot_break_the_card() -> None:
    record = RunRecord(
        "r",
        {"classes": [{"species": "a|b\n<script>", "identity": "x", "annotations": 1}]},
        (CataloguedSpecies("a|b\n<script>", ("one\n# two",), "ignore"),),
    )
    assert "| a\\|b &lt;script> | 1 | 1 | ignore | one # two |" in card_of(record).splitlines()


@pytest.mark.parametrize(
    ("licence", "shown", "name"),
    [
        (None, None, None),
        ("Apache-2.0", "apache-2.0", None),
        ("AGPL-3.0-or-later", "agpl-3.0", None),
        ("LicenseRef-ours", "other", "LicenseRef-ours"),
        ("MIT OR Apache-2.0", "other", "MIT OR Apache-2.0"),
    ],
)
def test_the_hub_reads_the_head_of_the_card(licence: str | None, shown: str | None, name: str | None) -> None:
    head = ModelCard(card_of(licence=licence)).data.to_dict()
    assert (head.get("license"), head.get("license_name")) == (shown, name)
    assert licence is None or hub_licence(licence) == shown
    assert head["library_name"] == "transformers"
    assert head["pipeline_tag"] == "image-feature-extraction"
    assert "animal-re-identification" in head["tags"]


@pytest.mark.parametrize(
    ("source", "base"),
    [
        ("run r, started from hub:BVRA/MegaDescriptor-L-384@0abc (CC-BY-NC-4.0)", "BVRA/MegaDescriptor-L-384"),
        ("run r, started from timm hub timm/test_vit.r160_in1k", "timm/test_vit.r160_in1k"),
        ("run r, started from imagenet-lite0 (Apache-2.0)", None),
        ("run r, started from file a/b.pth", None),
    ],
)
def test_a_base_model_is_named_where_it_is_on_the_hub(source: str, base: str | None) -> None:
    assert ModelCard(card_of(weights_source=source)).data.to_dict().get("base_model") == base


def test_the_code_in_the_card_runs(tmp_path: Path, model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    publish(model, RECORD, str(tmp_path / "FOLDER"))
    monkeypatch.chdir(tmp_path)
    pictures()[0].save("photo.jpg")
    text = (tmp_path / "FOLDER" / "README.md").read_text(encoding="utf-8")
    names: dict[str, Any] = {"left": 5, "top": 6, "right": 60, "bottom": 61}
    exec(text.partition("```python\n")[2].partition("```")[0], names)
    assert names["embedding"].shape == (1, 256)


@pytest.mark.parametrize("licence", ["CC-BY-NC-4.0", "cc-by-nc-4.0", "PolyForm-Noncommercial-1.0.0"])
def test_warnings_tell_what_the_publisher_should_know(tmp_path: Path, licence: str) -> None:
    folder = run_model(tmp_path / "model")
    assert publish(folder, RECORD, str(tmp_path / "a"), licence="MIT").warnings == ()
    embedder = Embedder.load(folder)
    embedder.config = replace(embedder.config, weights_source=f"run r, started from hub:o/n ({licence})")
    embedder.save(folder)
    bare = publish(folder, replace(RECORD, evaluations=()), str(tmp_path / "b"), warnings=("given",)).warnings
    expected = ("given", "no licence is stated", "not evaluated: resight evaluate", "non-commercial use")
    assert len(bare) == 4
    assert all(words in warning for words, warning in zip(expected, bare, strict=True))


def write_report(folder: Path, name: str, document: object, *, at: int) -> None:
    folder.mkdir(exist_ok=True)
    (folder / name).write_text(json.dumps(document), encoding="utf-8")
    os.utime(folder / name, (at, at))


def test_evaluations_are_those_of_this_model_one_a_split(tmp_path: Path) -> None:
    reports = tmp_path / "reports"
    assert read_evaluations(reports, "r", "this") == ((), ())
    alone, beside, other, before = (
        {"model": "r", "split": split, "weights_hash": weights, "figure": figure}
        for split, weights, figure in (("s", "this", 1), ("s", "this", 2), ("t", "this", 3), ("u", "that", 4))
    )
    write_report(reports, "evaluate-r-s.json", alone, at=3000)
    write_report(reports, "evaluate-r-against-q-s.json", beside, at=4000)  # the same split, later
    write_report(reports, "evaluate-r-t.json", other, at=9000)
    write_report(reports, "evaluate-r-u.json", before, at=9000)  # of another model that bore the name
    write_report(reports, "evaluate-r-x-s.json", {"model": "r-x", "split": "s"}, at=4000)  # of run r-x
    (reports / "evaluate-r-torn.json").write_text("{", encoding="utf-8")
    documents, warnings = read_evaluations(reports, "r", "this")
    assert documents == (beside, other)
    assert len(warnings) == 2
    assert "evaluate-r-torn.json is left out, since it cannot be read" in warnings[0]
    assert "evaluate-r-u.json is left out, since it is of other weights than the model's" in warnings[1]


class FakeHub:
    """What of the hub's library an upload uses; keeps what it was sent."""

    def __init__(self, *, private_already: bool | None = None, failure: Exception | None = None) -> None:
        self.private = private_already
        self.failure = failure
        self.uploaded: dict[str, bytes] = {}

    def create_repo(self, repo_id: str, *, private: bool, exist_ok: bool) -> str:
        assert exist_ok
        if self.failure is not None:
            raise self.failure
        if self.private is None:
            self.private = private
        return f"https://huggingface.co/{repo_id}"

    def model_info(self, repo_id: str) -> SimpleNamespace:
        return SimpleNamespace(private=self.private)

    def upload_folder(self, *, repo_id: str, folder_path: Path, commit_message: str) -> None:
        self.uploaded = {path.name: path.read_bytes() for path in Path(folder_path).iterdir()}


Connect = Callable[[FakeHub], FakeHub]


@pytest.fixture
def connect(monkeypatch: pytest.MonkeyPatch) -> Connect:
    def to(hub: FakeHub) -> FakeHub:
        monkeypatch.setattr(huggingface_hub, "HfApi", lambda: hub)
        return hub

    return to


@pytest.mark.parametrize("public", [False, True])
def test_the_hub_gets_all_files_and_is_private_by_default(model: Path, connect: Connect, public: bool) -> None:
    hub = connect(FakeHub())
    result = publish(model, RECORD, "hub:owner/name", licence="MIT", public=public)
    assert tuple(sorted(hub.uploaded)) == result.files == FILES
    assert hub.private is result.private is (not public)
    assert (result.path, result.url) == ("hub:owner/name", "https://huggingface.co/owner/name")
    assert result.warnings == ()
    card = hub.uploaded["README.md"].decode()
    assert "resight embed --model hub:owner/name" in card
    assert 'AutoModel.from_pretrained("owner/name", trust_remote_code=True)' in card


def test_a_public_repository_gets_nothing_unless_that_is_said(model: Path, connect: Connect) -> None:
    hub = connect(FakeHub(private_already=False))
    with pytest.raises(InputError, match=r"hub:o/n is public: everybody would see the model; say --public"):
        publish(model, RECORD, "hub:o/n", licence="MIT")
    assert hub.uploaded == {}
    assert publish(model, RECORD, "hub:o/n", licence="MIT", public=True).private is False
    assert hub.uploaded


def test_a_private_repository_stays_private_and_that_is_told(model: Path, connect: Connect) -> None:
    connect(FakeHub(private_already=True))
    result = publish(model, RECORD, "hub:o/n", licence="MIT", public=True)
    assert result.private is True
    assert result.warnings == ("hub:o/n was private before and stays so; its page on the hub changes that",)


def refusal(status: int) -> HfHubHTTPError:
    response: Any = SimpleNamespace(headers={}, status_code=status, request=None)
    return HfHubHTTPError(f"{status} for url x\nmore", response=response)


@pytest.mark.parametrize(
    ("failure", "kind", "words"),
    [
        (refusal(401), InputError, "the hub refuses the token (401): take one that may write for owner"),
        (refusal(403), InputError, "the hub refuses the token (403)"),
        (refusal(500), ResightError, "nothing was uploaded (500 for url x)"),
        (HfHubHTTPError.__bases__[0]("[Errno -2] not known"), ResightError, "nothing was uploaded ([Errno -2] not"),
        (ConnectionError("no route"), ResightError, "nothing was uploaded (no route)"),
        (RuntimeError("CAS service error"), ResightError, "nothing was uploaded (CAS service error)"),  # of hf_xet
    ],
)
def test_a_hub_that_fails_is_one_line(
    model: Path, connect: Connect, failure: Exception, kind: type[ResightError], words: str
) -> None:
    connect(FakeHub(failure=failure))
    with pytest.raises(ResightError) as caught:
        publish(model, RECORD, "hub:owner/name")
    assert type(caught.value) is kind
    assert words in str(caught.value)
    assert "\n" not in str(caught.value)


def test_without_a_network_or_a_token_the_hub_says_so(model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ResightError, match=r"hub:o/n: nothing was uploaded \(.*offline mode is enabled"):
        publish(model, RECORD, "hub:o/n")
    with pytest.raises(InputError, match=r"hub:o/nnn.*; name it otherwise"):
        publish(model, RECORD, f"hub:o/{'n' * 100}")
    monkeypatch.setattr(huggingface_hub, "get_token", lambda: None)
    with pytest.raises(InputError, match=r"hub:o/n needs a token that may write: .* set HF_TOKEN"):
        publish(model, RECORD, "hub:o/n")
