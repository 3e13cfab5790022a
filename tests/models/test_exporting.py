from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from resight.artefacts import Passport
from resight.chips import ChipSpec, chip_path, write_chip
from resight.errors import ArtefactMismatch, InputError, ResightError, UnknownName
from resight.models import choosing, exporting, runtimes
from resight.models.agreement import Agreement, measure_agreement
from resight.models.choosing import choose_runtime, export_folder
from resight.models.embedder import Embedder
from resight.models.exporting import ExportedModel, draw_chips, export_model
from resight.models.library import find_model
from resight.models.runtimes import open_export

from .test_runtimes import CONFIG, lively

FORMATS = ("onnx", "openvino")
EXPECTED_FILES = {
    "onnx": ["model.onnx", "passport.json"],
    "openvino": ["model.bin", "model.xml", "passport.json"],
}


@pytest.fixture(scope="module")
def embedder() -> Embedder:
    torch.manual_seed(0)
    return lively(Embedder(CONFIG))


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory, embedder: Embedder) -> Path:
    """A run ``r``, exported in both formats, with enough chips for the comparison."""
    folder = tmp_path_factory.mktemp("project")
    embedder.save(folder / "runs" / "r" / "model")
    (folder / "runs" / "r" / "config.json").write_text("{}")
    for number, chip in enumerate(draw_chips(40, 64)):
        write_chip(chip_path(folder / "chips" / ChipSpec(64).folder_name, f"{number % 5:02x}{number}"), chip)
    return folder


@pytest.fixture(scope="module")
def exported(project: Path) -> dict[str, ExportedModel]:
    found = find_model("r", project / "runs")
    return {
        format: choosing.export_found(
            found, format, export_folder(found, project, format), chips_root=project / "chips"
        )
        for format in FORMATS
    }


@pytest.mark.parametrize("format", FORMATS)
def test_the_file_gives_the_vectors_of_the_network(
    project: Path, exported: dict[str, ExportedModel], embedder: Embedder, format: str
) -> None:
    result = exported[format]
    folder = project / "runs" / "r" / "exports" / format
    assert Path(result.path).parent == folder
    assert sorted(path.name for path in folder.iterdir()) == EXPECTED_FILES[format]
    assert [path.name for path in folder.parent.iterdir() if not path.name.endswith(".lock")] in (
        [*FORMATS],
        [*reversed(FORMATS)],
    )
    assert (result.chips, result.chips_from) == (40, "project")
    assert result.cosine_min >= 0.999
    runtime = open_export(folder, format, embedder.config, embedder.weights_hash, remedy="")
    for count in (0, 1, 2, 35):  # any number, more than a batch too
        chips = draw_chips(count, 64)
        vectors = runtime.embed_chips(chips)
        assert (vectors.dtype, vectors.shape) == (np.float16, (count, 256))
        if count:
            assert measure_agreement(embedder.embed_chips(chips), vectors).holds
    assert runtime.made_by == f"{format} {result.precision}"


def test_the_onnx_file_takes_bytes_and_normalises_inside(
    exported: dict[str, ExportedModel], embedder: Embedder
) -> None:
    import onnxruntime

    session = onnxruntime.InferenceSession(exported["onnx"].path, providers=["CPUExecutionProvider"])
    ((chips,), (embeddings,)) = session.get_inputs(), session.get_outputs()
    assert (chips.name, chips.type, chips.shape[1:]) == ("chips", "tensor(uint8)", [64, 64, 3])
    assert (embeddings.name, embeddings.type, embeddings.shape[1:]) == ("embeddings", "tensor(float)", [256])
    # Red, green and blue are not mixed up: each has its own mean and deviation.
    plain = np.zeros((3, 64, 64, 3), np.uint8)
    plain[range(3), :, :, range(3)] = 255
    (vectors,) = session.run(None, {"chips": plain})
    assert np.allclose(vectors, embedder.embed_chips(plain), rtol=2e-3, atol=2e-3)


def test_the_passport_says_what_the_file_is(
    project: Path, exported: dict[str, ExportedModel], embedder: Embedder
) -> None:
    passport = Passport.read(project / "runs" / "r" / "exports" / "onnx" / "passport.json")
    assert (passport.kind, passport.decides["weights_hash"]) == ("export", embedder.weights_hash)
    assert passport.decides["image_size"] == 64
    recorded = passport.recorded
    assert recorded["agreement"]["chips"] == 40
    assert recorded["opset"] >= 18
    assert recorded["input"]["name"] == "chips"
    assert {"torch", "timm", "onnx", "onnxruntime"} <= recorded["versions"].keys()


@pytest.mark.parametrize("format", FORMATS)
def test_an_export_of_other_weights_or_settings_is_refused(
    project: Path, exported: dict[str, ExportedModel], embedder: Embedder, format: str
) -> None:
    folder = Path(exported[format].path).parent
    with pytest.raises(ArtefactMismatch, match=r"weights_hash is .* there and 'other' now; export it anew"):
        open_export(folder, format, embedder.config, "other", remedy="export it anew")
    changed = replace(embedder.config, std=(0.5, 0.5, 0.5))
    with pytest.raises(ArtefactMismatch, match="std is"):
        open_export(folder, format, changed, embedder.weights_hash, remedy="export it anew")
    renamed = replace(embedder.config, licence="MIT", weights_source="elsewhere")
    open_export(folder, format, renamed, embedder.weights_hash, remedy="export it anew")


@pytest.mark.parametrize("format", FORMATS)
def test_a_broken_or_missing_file_is_one_clear_line(
    exported: dict[str, ExportedModel], embedder: Embedder, tmp_path: Path, format: str
) -> None:
    file = runtimes.MODEL_FILES[format]
    (tmp_path / "passport.json").write_bytes((Path(exported[format].path).parent / "passport.json").read_bytes())
    with pytest.raises(InputError, match="is missing: make it"):
        open_export(tmp_path, format, embedder.config, embedder.weights_hash, remedy="make it")
    (tmp_path / file).write_bytes(b"nonsense")
    with pytest.raises(InputError, match="cannot be read") as caught:
        open_export(tmp_path, format, embedder.config, embedder.weights_hash, remedy="make it")
    assert "\n" not in str(caught.value)


def test_without_a_word_the_openvino_export_is_used_and_torch_where_there_is_none(
    project: Path, exported: dict[str, ExportedModel], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    found = find_model("r", project / "runs")
    assert choose_runtime(found, None, project).made_by.startswith("openvino")
    assert choose_runtime(found, "torch", project).made_by == "torch float32"
    assert choose_runtime(found, "onnx", project).made_by == "onnx float32"
    monkeypatch.setattr(choosing, "can_read", lambda format: False)
    assert choose_runtime(found, None, project).made_by == "torch float32"
    elsewhere = find_model(str(project / "runs" / "r" / "model"), tmp_path)
    assert choose_runtime(elsewhere, None, tmp_path).made_by == "torch float32"


def test_an_export_that_is_asked_for_and_not_there_is_made_and_one_that_is_there_is_not(
    project: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made: list[tuple[str, Path]] = []

    def export(found: object, format: str, folder: Path, *, chips_root: Path) -> None:
        made.append((format, folder))
        raise ResightError("enough")

    monkeypatch.setattr(choosing, "export_found", export)
    elsewhere = find_model(str(project / "runs" / "r" / "model"), tmp_path)
    with pytest.raises(ResightError, match="enough"):
        choose_runtime(elsewhere, "onnx", tmp_path)
    assert made == [("onnx", tmp_path / "exports" / elsewhere.name / "onnx")]


def test_an_export_that_no_longer_fits_is_not_used_and_said(
    project: Path, exported: dict[str, ExportedModel], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    target = tmp_path / "runs" / "r" / "exports" / "openvino"
    target.mkdir(parents=True)
    for path in Path(exported["openvino"].path).parent.iterdir():
        (target / path.name).write_bytes(path.read_bytes())
    torch.manual_seed(5)
    Embedder(CONFIG).save(tmp_path / "runs" / "r" / "model")  # trained again under its name
    (tmp_path / "runs" / "r" / "config.json").write_text("{}")
    found = find_model("r", tmp_path / "runs")
    assert choose_runtime(found, None, tmp_path).made_by == "torch float32"
    assert "torch is used instead" in caplog.text
    with pytest.raises(ArtefactMismatch, match="resight export-model r --format openvino"):
        choose_runtime(found, "openvino", tmp_path)


def _light(monkeypatch: pytest.MonkeyPatch, cosine: float = 1.0) -> None:
    """Exports in no time, and a comparison that ends as told."""

    def write(embedder: Embedder, path: Path) -> int:
        path.write_bytes(b"graph")
        return 20

    monkeypatch.setattr(exporting, "write_onnx", write)
    monkeypatch.setattr(exporting, "run_file", lambda path, format, precision: lambda chips: np.ones((len(chips), 4)))
    monkeypatch.setattr(exporting, "measure_agreement", lambda a, b: Agreement(len(a), cosine, 1.0))


def test_a_file_that_does_not_agree_is_not_kept_and_the_old_one_stays(
    embedder: Embedder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "out"
    _light(monkeypatch)
    export_model(embedder, "m", "onnx", folder)
    before = {path.name: path.read_bytes() for path in folder.iterdir()}
    _light(monkeypatch, cosine=0.9989)
    with pytest.raises(ArtefactMismatch, match=r"onnx file of m does not agree .*0\.99890.*nothing was kept"):
        export_model(embedder, "m", "onnx", folder)
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == before
    with pytest.raises(ArtefactMismatch):
        export_model(embedder, "m", "onnx", tmp_path / "fresh")
    assert sorted(path.name for path in tmp_path.iterdir() if not path.name.endswith(".lock")) == ["out"]


def test_a_folder_with_other_things_in_it_is_never_replaced(
    embedder: Embedder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    _light(monkeypatch)
    (tmp_path / "photos").mkdir()
    (tmp_path / "photos" / "a.jpg").write_bytes(b"a photo")
    with pytest.raises(InputError, match="is no folder of an export"):
        export_model(embedder, "m", "onnx", tmp_path / "photos")
    Passport("chips", {}).write(tmp_path / "photos" / "passport.json")
    with pytest.raises(InputError, match="is no folder of an export"):
        export_model(embedder, "m", "onnx", tmp_path / "photos")
    assert (tmp_path / "photos" / "a.jpg").read_bytes() == b"a photo"
    (tmp_path / "empty").mkdir()
    assert Path(export_model(embedder, "m", "onnx", tmp_path / "empty").path).is_file()
    assert Path(export_model(embedder, "n", "onnx", tmp_path / "empty").path).is_file()
    assert json.loads((tmp_path / "empty" / "passport.json").read_text())["recorded"]["model"] == "n"


@pytest.mark.parametrize(
    ("bfloat16", "chips", "expected"),
    [
        (Agreement(40, 0.9999, 1.0), 40, "bfloat16"),
        (Agreement(40, 0.9999, 0.975), 40, "float32"),  # the ranks are not kept
        (Agreement(40, 0.9995, 1.0), 40, "float32"),
        (Agreement(40, 0.9999, 1.0), 31, "float32"),  # drawn pictures say too little
    ],
)
def test_bfloat16_is_taken_only_where_it_keeps_the_ranks_of_real_chips(
    embedder: Embedder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, bfloat16: Agreement, chips: int, expected: str
) -> None:
    _light(monkeypatch)
    asked: list[str] = []

    def run_file(path: Path, format: str, precision: str):  # type: ignore[no-untyped-def]
        asked.append(precision)
        return lambda batch: np.ones((len(batch), 4))

    monkeypatch.setattr(exporting, "run_file", run_file)
    monkeypatch.setattr(exporting, "onnx_to_openvino", lambda folder: None)
    monkeypatch.setattr(exporting, "has_fast_bfloat16", lambda: True)
    monkeypatch.setattr(
        exporting, "measure_agreement", lambda a, b: bfloat16 if asked[-1] == "bfloat16" else Agreement(40, 1.0, 1.0)
    )
    for number, chip in enumerate(draw_chips(chips, 64)):
        write_chip(chip_path(tmp_path / "chips", f"00{number}"), chip)
    result = export_model(embedder, "m", "openvino", tmp_path / "out", chips_folder=tmp_path / "chips")
    assert result.precision == expected
    assert Passport.read(tmp_path / "out" / "passport.json").recorded["precision"] == expected
    asked.clear()
    monkeypatch.setattr(exporting, "has_fast_bfloat16", lambda: False)
    result = export_model(embedder, "m", "openvino", tmp_path / "out", chips_folder=tmp_path / "chips")
    assert (result.precision, asked) == ("float32", ["float32"])


def test_what_the_format_or_the_exporter_does_not_know_is_said(
    embedder: Embedder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(UnknownName, match="no export format named 'onxx': did you mean 'onnx'"):
        export_model(embedder, "m", "onxx", tmp_path / "out")

    def fail(*_: object, **__: object) -> None:
        raise torch.onnx.OnnxExporterError("no such operator\nand a long report")

    monkeypatch.setattr(torch.onnx, "export", fail)
    with pytest.raises(ResightError, match=r"'test_efficientnet' cannot be written as ONNX \(no such operator\)"):
        export_model(embedder, "m", "onnx", tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_drawn_chips_are_the_same_each_time_and_no_two_alike() -> None:
    first, again = draw_chips(5, 32), draw_chips(5, 32)
    assert np.array_equal(first, again)
    assert len({chip.tobytes() for chip in first}) == 5
