"""What runs a network: torch, or an exported file by onnxruntime or OpenVINO. Nothing here imports torch.

A runtime is a tiny adapter: chips in, float16 vectors out, and it says whose weights it holds. An exported file is
believed only with its passport, which keeps the weights' hash and how well the file agrees with the network.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Literal, Protocol

import numpy as np
from numpy.typing import NDArray

from resight.artefacts import Passport
from resight.errors import InputError
from resight.models.config import EmbedderConfig

PASSPORT_FILE = "passport.json"
MODEL_FILES = {"onnx": "model.onnx", "openvino": "model.xml"}
INPUT, OUTPUT = "chips", "embeddings"
EXPORT_VERSION = 1  # raise it whenever the same weights would give another graph
CPU_BATCH = 32
LARGEST_FLOAT16 = 65504.0

Precision = Literal["float32", "bfloat16", "float16"]

# What a runtime imports, by the extra that installs it; making the file needs more than reading it.
_READS = {"onnx": ("onnxruntime",), "openvino": ("openvino",)}
_WRITES = {"onnx": ("onnx", "onnxscript", "onnxruntime"), "openvino": ("onnx", "onnxscript", "openvino")}


class Runtime(Protocol):
    """Turns chips into vectors.

    Attributes:
        config: The network and its preprocessing.
        batch: Chips that go through at once.
        accelerated: Whether the CPU's cores are free while the network works.
    """

    config: EmbedderConfig
    batch: int
    accelerated: bool

    @property
    def weights_hash(self) -> str:
        """Of the weights it was made from."""
        ...

    @property
    def made_by(self) -> str:
        """Runtime and precision, such as ``openvino bfloat16``."""
        ...

    def embed_chips(self, chips: NDArray[np.uint8]) -> NDArray[np.float16]:
        """Turn (n, N, N, 3) uint8 RGB chips into (n, dim) float16 vectors, not normalised."""
        ...


class ExportedRuntime:
    """An exported file, run on the CPU.

    Args:
        config: The network's.
        weights_hash: Of the weights the file was made from.
        made_by: Runtime and precision.
        run: (n, N, N, 3) uint8 → (n, dim) float32.
    """

    def __init__(
        self,
        config: EmbedderConfig,
        weights_hash: str,
        made_by: str,
        run: Callable[[NDArray[np.uint8]], NDArray[np.float32]],
    ) -> None:
        self.config = config
        self.weights_hash = weights_hash
        self.made_by = made_by
        self.batch = CPU_BATCH
        self.accelerated = False
        self._run = run

    def embed_chips(self, chips: NDArray[np.uint8]) -> NDArray[np.float16]:
        """Embed chips held in memory.

        Args:
            chips: (n, N, N, 3) uint8, RGB, with N the config's ``image_size``.

        Returns:
            (n, dim) float16, as the network gives them, not normalised.

        Raises:
            InputError: chips of another type or size, or an embedding that float16 cannot hold.
        """
        require_chips(chips, self.config.image_size)
        vectors = np.empty((len(chips), self.config.dim), np.float16)
        for start in range(0, len(chips), self.batch):
            embedded = self._run(np.ascontiguousarray(chips[start : start + self.batch]))
            vectors[start : start + self.batch] = as_float16(embedded, first_row=start)
        return vectors


def export_passport(format: str, config: EmbedderConfig, weights_hash: str, **recorded: Any) -> Passport:
    """What decides an exported file: the network with all of its settings, its weights, and how it is written."""
    network = {key: value for key, value in config.to_json().items() if key not in ("weights_source", "licence")}
    decides = {"format": format, "weights_hash": weights_hash, "export_version": EXPORT_VERSION, **network}
    return Passport("export", decides, recorded)


def open_export(folder: Path, format: str, config: EmbedderConfig, weights_hash: str, *, remedy: str) -> Runtime:
    """Open an exported file.

    Args:
        folder: Holds the file and its passport.
        format: ``onnx`` or ``openvino``.
        config: Of the network that is wanted.
        weights_hash: Likewise.
        remedy: The command that exports it anew.

    Raises:
        ArtefactMismatch: the file was made from other weights or settings.
        InputError: the file is not there or cannot be read, or the Python package that reads it is not installed.
    """
    passport = Passport.read(folder / PASSPORT_FILE)
    passport.require_fit(export_passport(format, config, weights_hash), where=folder, remedy=remedy)
    precision = str(passport.recorded.get("precision", "float32"))
    path = folder / MODEL_FILES[format]
    if not path.is_file():
        raise InputError(f"{path} is missing: {remedy}")
    return ExportedRuntime(config, weights_hash, f"{format} {precision}", run_file(path, format, precision))


def run_file(path: Path, format: str, precision: str) -> Callable[[NDArray[np.uint8]], NDArray[np.float32]]:
    """Load an exported file and give the function that runs it on the CPU.

    Raises:
        InputError: the file cannot be read, or the Python package that reads it is not installed.
    """
    require_readable(format)
    return _onnx(path) if format == "onnx" else _openvino(path, precision)


def _onnx(path: Path) -> Callable[[NDArray[np.uint8]], NDArray[np.float32]]:
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = _threads()
    options.log_severity_level = 3
    try:
        session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    except _onnxruntime_errors() as error:
        raise _unreadable(path, error) from None

    def run(chips: NDArray[np.uint8]) -> NDArray[np.float32]:
        (embedded,) = session.run([OUTPUT], {INPUT: chips})
        return np.asarray(embedded, np.float32)

    return run


def _onnxruntime_errors() -> tuple[type[Exception], ...]:
    from onnxruntime.capi import onnxruntime_pybind11_state as state

    return (state.InvalidProtobuf, state.InvalidGraph, state.NoSuchFile, state.Fail, state.InvalidArgument)


def _openvino(path: Path, precision: str) -> Callable[[NDArray[np.uint8]], NDArray[np.float32]]:
    import openvino

    settings: dict[str, Any] = {
        "PERFORMANCE_HINT": "LATENCY",  # one request on all cores: batches come one after the other
        "INFERENCE_PRECISION_HINT": "bf16" if precision == "bfloat16" else "f32",
    }
    if _threads():
        settings["INFERENCE_NUM_THREADS"] = _threads()
    try:
        core = openvino.Core()
        compiled = core.compile_model(core.read_model(str(path)), "CPU", settings)
    except RuntimeError as error:
        raise _unreadable(path, error) from None

    def run(chips: NDArray[np.uint8]) -> NDArray[np.float32]:
        # The output's memory is the runtime's own and is written to again by the next call.
        return np.array(compiled({INPUT: chips})[OUTPUT], np.float32)

    return run


def has_fast_bfloat16() -> bool:
    """Whether OpenVINO is installed and multiplies bfloat16 by instructions that this CPU has."""
    if find_spec("openvino") is None:
        return False
    import openvino

    return "BF16" in openvino.Core().get_property("CPU", "OPTIMIZATION_CAPABILITIES")


def require_writable(format: str) -> None:
    """Refuse to export where a Python package is missing.

    Raises:
        InputError: naming the extra that installs it.
    """
    require_packages(format, _WRITES[format])


def require_readable(format: str) -> None:
    """Refuse to run an export where the Python package that runs it is missing.

    Raises:
        InputError: naming the extra that installs it.
    """
    require_packages(format, _READS[format])


def can_read(format: str) -> bool:
    """Whether what reads files of this format is installed."""
    return all(find_spec(package) is not None for package in _READS[format])


def require_packages(extra: str, packages: tuple[str, ...]) -> None:
    """Refuse to go on without Python packages of an extra.

    Raises:
        InputError: naming the missing ones and the command that installs them.
    """
    missing = [package for package in packages if find_spec(package) is None]
    if missing:
        raise InputError(
            f"{extra} needs the Python package {' and '.join(missing)}, which is not installed: "
            f"pip install 'resight[{extra}]'"
        )


def require_chips(chips: NDArray[np.uint8], size: int) -> None:
    """Refuse chips of another type or size.

    Raises:
        InputError: naming both.
    """
    if chips.dtype != np.uint8 or chips.ndim != 4 or chips.shape[1:] != (size, size, 3):
        raise InputError(
            f"chips are {chips.dtype} of shape {chips.shape}, expected uint8 of shape (n, {size}, {size}, 3): "
            f"cut them at {size} pixels for this model"
        )


def as_float16(embedded: NDArray[np.float32], *, first_row: int) -> NDArray[np.float16]:
    """Vectors as they are kept.

    Args:
        embedded: (n, dim).
        first_row: The place of the first, for the message.

    Raises:
        InputError: a vector that float16 cannot hold.
    """
    largest = np.abs(embedded).max(axis=1, initial=0.0)
    wrong = np.flatnonzero(~(largest <= LARGEST_FLOAT16))  # NaN fails the comparison as well
    if len(wrong):
        raise InputError(
            f"the embedding of chip {first_row + int(wrong[0])} reaches {largest[wrong[0]]}, and float16 holds at most "
            f"{LARGEST_FLOAT16:.0f}: the model's weights are broken or untrained; take another model"
        )
    return embedded.astype(np.float16)


def _threads() -> int:
    """What OMP_NUM_THREADS asks for, as torch obeys it; 0 leaves it to the runtime."""
    asked = os.environ.get("OMP_NUM_THREADS", "")
    return int(asked) if asked.isdecimal() else 0


def _unreadable(path: Path, error: Exception) -> InputError:
    reason = next((line for line in str(error).splitlines() if line.strip()), type(error).__name__)
    return InputError(f"{path} cannot be read ({reason.strip()}): export the model again, resight export-model")
