"""A network as an ONNX or OpenVINO file that anybody can run: uint8 chips in, vectors out.

Normalisation is inside, so nobody can get it wrong. A file is kept only after its vectors were compared with the
network's on chips.
"""

from __future__ import annotations

import tempfile
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from importlib.metadata import version
from itertools import zip_longest
from pathlib import Path
from typing import Any

import numpy as np
import torch
from filelock import FileLock
from numpy.typing import NDArray
from torch import Tensor, nn

from resight.artefacts import Passport
from resight.errors import ArtefactMismatch, InputError, ResightError, UnknownName
from resight.models.agreement import LEAST_COSINE, Agreement, measure_agreement
from resight.models.embedder import Embedder
from resight.models.runtimes import (
    INPUT,
    MODEL_FILES,
    OUTPUT,
    PASSPORT_FILE,
    Precision,
    export_passport,
    has_fast_bfloat16,
    require_writable,
    run_file,
)

CHECKED_CHIPS = 64
LEAST_REAL_CHIPS = 32  # fewer say too little about whether bfloat16 keeps the ranks
CHECK_BATCH = 16


@dataclass(frozen=True)
class ExportedModel:
    """An exported file.

    Attributes:
        model: The model's name.
        format: ``onnx`` or ``openvino``.
        path: The file; its passport lies beside it.
        precision: ``float32``, or ``bfloat16`` where that was seen to keep the ranks.
        cosine_min: The smallest cosine between the file's vector of a chip and the network's.
        same_top1: Share of the chips whose nearest other chip is the same by both.
        chips: How many chips were compared.
        chips_from: ``project``, or ``drawn`` where the project has too few chips of that size.
    """

    model: str
    format: str
    path: str
    precision: str
    cosine_min: float
    same_top1: float | None
    chips: int
    chips_from: str


def export_model(
    embedder: Embedder, name: str, format: str, folder: Path, *, chips_folder: Path | None = None
) -> ExportedModel:
    """Write a network as a file, with its passport; the folder's old export is replaced whole or not at all.

    Args:
        embedder: On the CPU.
        name: The model's name.
        format: ``onnx`` or ``openvino``.
        folder: Not there yet, empty, or holding an earlier export.
        chips_folder: Chips of the network's size, for the comparison.

    Raises:
        UnknownName: no such format.
        InputError: a Python package is missing, or the folder holds something else.
        ArtefactMismatch: the file's vectors are not the network's; nothing is kept.
        ResightError: the network has operations that cannot be written.
    """
    UnknownName.require("export format", [format], MODEL_FILES)
    require_writable(format)
    folder = folder.resolve()  # a folder such as "." has no name of its own
    _require_replaceable(folder)
    embedder.eval()
    chips, chips_from = _chips_to_compare(chips_folder, embedder.config.image_size)
    reference = _in_batches(embedder.embed_chips, chips)
    with _replacing(folder) as fresh:
        opset = write_onnx(embedder, fresh / MODEL_FILES["onnx"])
        if format == "openvino":
            onnx_to_openvino(fresh)
        precision, agreement = _compare(fresh, format, chips, reference, real=chips_from == "project")
        if not agreement.holds:
            raise ArtefactMismatch(
                f"the {format} file of {name} does not agree with the network ({agreement.in_words()}; expected "
                f"{LEAST_COSINE} or more): nothing was kept; use --runtime torch"
            )
        recorded = {
            "model": name,
            "precision": precision,
            "opset": opset,
            "input": {"name": INPUT, "type": "uint8", "shape": ["n", *chips.shape[1:]], "order": "RGB"},
            "output": {"name": OUTPUT, "type": "float32", "shape": ["n", embedder.config.dim]},
            "agreement": {**asdict(agreement), "chips_from": chips_from},
            "licence": embedder.config.licence,
            "versions": {package: version(package) for package in ("torch", "timm", "onnx", *_runtime(format))},
        }
        export_passport(format, embedder.config, embedder.weights_hash, **recorded).write(fresh / PASSPORT_FILE)
    return ExportedModel(
        name,
        format,
        str(folder / MODEL_FILES[format]),
        precision,
        round(agreement.cosine_min, 6),
        agreement.same_top1,
        agreement.chips,
        chips_from,
    )


def _compare(
    folder: Path, format: str, chips: NDArray[np.uint8], reference: NDArray[Any], *, real: bool
) -> tuple[Precision, Agreement]:
    """The fastest precision that keeps the ranks, else float32; and how well it agrees."""
    path = folder / MODEL_FILES[format]
    if format == "openvino" and real and has_fast_bfloat16():
        agreement = measure_agreement(reference, _in_batches(run_file(path, format, "bfloat16"), chips))
        if agreement.keeps_ranks:
            return "bfloat16", agreement
    return "float32", measure_agreement(reference, _in_batches(run_file(path, format, "float32"), chips))


def _in_batches(run: Any, chips: NDArray[np.uint8]) -> NDArray[Any]:
    parts = [run(chips[start : start + CHECK_BATCH]) for start in range(0, len(chips), CHECK_BATCH)]
    return np.concatenate(parts)


class _FromChips(nn.Module):
    def __init__(self, embedder: Embedder) -> None:
        super().__init__()
        self.embedder = embedder

    def forward(self, chips: Tensor) -> Tensor:
        embeddings: Tensor = self.embedder(chips.permute(0, 3, 1, 2))
        return embeddings


def write_onnx(embedder: Embedder, path: Path) -> int:
    """Write the network and give the version of ONNX's operators that the file uses.

    Raises:
        ResightError: it has operations that ONNX has no words for.
    """
    import onnx

    size = embedder.config.image_size
    example = torch.zeros((2, size, size, 3), dtype=torch.uint8)  # of two: a size of one would be taken as fixed
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # notes to developers of torch and timm
            program = torch.onnx.export(
                _FromChips(embedder).eval(),
                (example,),
                input_names=[INPUT],
                output_names=[OUTPUT],
                dynamo=True,
                dynamic_shapes=({0: torch.export.Dim("n")},),
                verbose=False,
            )
    except torch.onnx.OnnxExporterError as error:
        reason = str(error).strip().splitlines()[0]
        raise ResightError(
            f"backbone {embedder.config.backbone!r} cannot be written as ONNX ({reason}): use --runtime torch"
        ) from None
    if program is None:
        raise ResightError("this version of torch wrote no ONNX program; install the one in requirements.lock")
    program.save(str(path), external_data=False)
    opsets = onnx.load(str(path), load_external_data=False).opset_import
    return max(int(entry.version) for entry in opsets if entry.domain in ("", "ai.onnx"))


def onnx_to_openvino(folder: Path) -> None:
    """Turn ``model.onnx`` of a folder into ``model.xml`` and ``model.bin``, all of it in float32."""
    import openvino

    source = folder / MODEL_FILES["onnx"]
    model = openvino.Core().read_model(str(source))
    openvino.save_model(model, str(folder / MODEL_FILES["openvino"]), compress_to_fp16=False)
    del model
    source.unlink()


def _runtime(format: str) -> tuple[str, ...]:
    return ("onnxruntime",) if format == "onnx" else ("openvino",)


def _chips_to_compare(folder: Path | None, size: int) -> tuple[NDArray[np.uint8], str]:
    paths = [] if folder is None or not folder.is_dir() else _some_chips(folder, CHECKED_CHIPS)
    if len(paths) >= LEAST_REAL_CHIPS:
        return np.stack([np.load(path) for path in paths]), "project"
    return draw_chips(CHECKED_CHIPS, size), "drawn"


def _some_chips(folder: Path, count: int) -> list[Path]:
    """One chip of each sub-folder, then another: their names are hashes, so any are as good as a random choice."""
    groups = [sorted(sub.glob("*.npy"))[:count] for sub in sorted(folder.iterdir()) if sub.is_dir()]
    in_turn = [path for turn in zip_longest(*groups) for path in turn if path is not None]
    return [path for path in in_turn if not path.name.startswith(".")][:count]


def draw_chips(count: int, size: int) -> NDArray[np.uint8]:
    """Pictures of coloured blotches of several sizes with some grain, the same each time.

    Returns:
        (count, size, size, 3) uint8.
    """
    rng = np.random.default_rng(0)
    chips = np.empty((count, size, size, 3), np.uint8)
    for number in range(count):
        picture = np.full((size, size, 3), 128.0)
        for cells in (3, 7, 15):
            coarse = rng.normal(0, 35, (cells, cells, 3))
            rows = np.arange(size) * cells // size
            picture += coarse[rows][:, rows]
        picture += rng.normal(0, 8, picture.shape)
        chips[number] = picture.clip(0, 255).astype(np.uint8)
    return chips


def _require_replaceable(folder: Path) -> None:
    if not folder.exists() or (folder.is_dir() and not any(folder.iterdir())):
        return
    if (
        folder.is_dir()
        and (folder / PASSPORT_FILE).is_file()
        and Passport.read(folder / PASSPORT_FILE).kind == "export"
    ):
        return
    raise InputError(f"{folder} is no folder of an export: name one that is empty or not there yet")


@contextmanager
def _replacing(folder: Path) -> Iterator[Path]:
    """A new folder beside ``folder`` that takes its place when the block ends well."""
    folder.parent.mkdir(parents=True, exist_ok=True)
    with (
        FileLock(folder.with_name(f".{folder.name}.lock")),
        tempfile.TemporaryDirectory(prefix=f".{folder.name}.", dir=folder.parent) as name,
    ):
        fresh = Path(name) / "new"
        fresh.mkdir()
        yield fresh
        if folder.exists():
            folder.replace(Path(name) / "old")
        fresh.replace(folder)
