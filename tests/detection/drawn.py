"""Photos with bright rectangles, ONNX networks that find them, and projects of raw photos, all made by code."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper
from PIL import Image
from sqlalchemy import insert, select

from resight.catalogue import schema
from resight.catalogue.detecting import RawPhoto
from resight.detection.run import DetectReport, detect
from resight.images import inspect
from resight.project import Project
from resight.settings import add_image_root
from resight.types import Box

DARK, BRIGHT = 20, 255
MEGADETECTOR = "{0: 'animal', 1: 'person', 2: 'vehicle'}"


def picture(width: int, height: int, box: Box | None = None) -> Image.Image:
    """A dark picture with a bright rectangle."""
    pixels = np.full((height, width, 3), DARK, np.uint8)
    if box is not None:
        pixels[int(box.y) : int(box.y + box.h), int(box.x) : int(box.x + box.w)] = BRIGHT
    return Image.fromarray(pixels)


def finder(
    file: Path,
    layout: str,
    *,
    width: int = 64,
    height: int = 64,
    half: bool = False,
    confidence: float = 0.75,
    label: int = 0,
    metadata: Mapping[str, str] | None = None,
    dynamic: bool = False,
) -> Path:
    """A network that gives the box around the bright pixels of its frame, of 3 classes."""
    kind, dtype = (TensorProto.FLOAT16, np.float16) if half else (TensorProto.FLOAT, np.float32)
    nodes: list[Any] = []
    constants: dict[str, NDArray[Any]] = {
        "bound": np.array(0.6, dtype), "xs": np.arange(width, dtype=dtype)[None],
        "ys": np.arange(height, dtype=dtype)[None], "one": np.array(1, dtype), "far": np.array(1e4, dtype),
        "half": np.array(0.5, dtype),
    }  # fmt: skip

    def node(op: str, inputs: Sequence[str], output: str, **attributes: Any) -> None:
        nodes.append(helper.make_node(op, list(inputs), [output], **attributes))

    node("ReduceMean", ["images"], "grey", axes=[1], keepdims=0)
    node("Greater", ["grey", "bound"], "is_bright")
    node("Cast", ["is_bright"], "bright", to=kind)
    for axis, places, reduced in (("x", "xs", 1), ("y", "ys", 2)):
        node("ReduceMax", ["bright"], f"{axis}_profile", axes=[reduced], keepdims=0)
        node("Sub", ["one", f"{axis}_profile"], f"{axis}_dark")
        node("Mul", [f"{axis}_dark", "far"], f"{axis}_away")
        node("Add", [f"{axis}_away", places], f"{axis}_starts")
        node("ReduceMin", [f"{axis}_starts"], f"{axis}_first", axes=[1], keepdims=1)
        node("Add", [places, "one"], f"{axis}_ends_all")
        node("Mul", [f"{axis}_ends_all", f"{axis}_profile"], f"{axis}_ends")
        node("ReduceMax", [f"{axis}_ends"], f"{axis}_last", axes=[1], keepdims=1)
        node("Sub", [f"{axis}_last", f"{axis}_first"], f"{axis}_size")
        node("Add", [f"{axis}_last", f"{axis}_first"], f"{axis}_sum")
        node("Mul", [f"{axis}_sum", "half"], f"{axis}_centre")
    centred = ["x_centre", "y_centre", "x_size", "y_size"]
    scores = np.zeros((1, 3), dtype)
    scores[0, label] = confidence
    if layout == "end to end":
        constants["rest"] = np.array([[confidence, label]], dtype)
        node("Concat", ["x_first", "y_first", "x_last", "y_last", "rest"], "row", axis=1)
        columns = 6
    elif layout == "anchors":
        constants["sure"] = np.array([[0.5]], dtype)  # the product is what counts
        constants["rest"] = scores * dtype(2)
        node("Concat", [*centred, "sure", "rest"], "row", axis=1)
        columns = 8
    else:
        constants["rest"] = scores
        node("Concat", [*centred, "rest"], "row", axis=1)
        columns = 7
    constants["shape"] = np.array([1, 1, columns], np.int64)
    # All boxes but the first are nothing; YOLOv5 gives this many.
    places = sum((width // stride) * (height // stride) for stride in (8, 16, 32))
    count = 32 if layout == "end to end" else 3 * places
    constants["nothing"] = np.zeros((1, count - 1, columns), dtype)
    node("Reshape", ["row", "shape"], "first")
    node("Concat", ["first", "nothing"], "rows", axis=1)
    if layout == "channels":
        node("Transpose", ["rows"], "output0", perm=[0, 2, 1])
        shape = [1, columns, count]
    else:
        node("Identity", ["rows"], "output0")
        shape = [1, count, columns]
    sides: list[Any] = ["batch", 3, "height", "width"] if dynamic else [1, 3, height, width]
    return _save(file, nodes, constants, kind, sides, shape, metadata)


def constant(
    file: Path,
    output: NDArray[Any],
    *,
    side: int = 64,
    metadata: Mapping[str, str] | None = None,
    sides: Sequence[Any] | None = None,
) -> Path:
    """A network that gives the same output whatever it sees."""
    nodes = [helper.make_node("Identity", ["all"], ["output0"])]
    sides = [1, 3, side, side] if sides is None else sides
    constants = {"all": np.asarray(output, np.float32)}
    return _save(file, nodes, constants, TensorProto.FLOAT, sides, list(output.shape), metadata)


def _save(
    file: Path,
    nodes: Sequence[Any],
    constants: Mapping[str, NDArray[Any]],
    kind: int,
    sides: Sequence[Any],
    shape: Sequence[int],
    metadata: Mapping[str, str] | None,
) -> Path:
    graph = helper.make_graph(
        list(nodes),
        "drawn",
        [helper.make_tensor_value_info("images", kind, list(sides))],
        [helper.make_tensor_value_info("output0", kind, list(shape))],
        [numpy_helper.from_array(value, name) for name, value in constants.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    helper.set_model_props(model, dict(metadata or {}))
    file.parent.mkdir(parents=True, exist_ok=True)
    onnx.save(model, str(file))
    return file


def results(file: Path, images: Mapping[str, Sequence[tuple[str, float, Sequence[float]]] | str]) -> Path:
    """A file of MegaDetector's results: picture → (category's id, confidence, relative box), or why it failed."""
    entries: list[dict[str, Any]] = []
    for name, found in images.items():
        if isinstance(found, str):
            entries.append({"file": name, "failure": found})
        else:
            detections = [{"category": key, "conf": conf, "bbox": list(box)} for key, conf, box in found]
            entries.append({"file": name, "detections": detections})
    document = {
        "info": {"format_version": "1.4", "detector": "MDV5A"},
        "detection_categories": {"1": "animal", "2": "person", "3": "vehicle", "4": "deer"},
        "images": entries,
    }
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(json.dumps(document), encoding="utf-8")
    return file


def photo(image_id: int = 1, **changes: Any) -> RawPhoto:
    """What the catalogue knows of a photo of 100 x 50 pixels."""
    values: dict[str, Any] = {
        "image_id": image_id, "source": "cards", "source_id": 1, "image_root": "cards", "image_path": f"{image_id}.jpg",
        "content_hash": None, "image_bytes": None, "image_modified_ns": None, "width": 100, "height": 50,
        "status": "ok", "problem": None, "species": None, "detector": None, "detector_best": None,
    }  # fmt: skip
    return RawPhoto(**{**values, **changes})


def raw_project(folder: Path, contents: Mapping[str, bytes], *, source: str = "cards", **columns: Any) -> Project:
    """A project with raw photos of one source, below the image root of the same name."""
    project = Project.init(folder / "project")
    add_photos(project, folder / source, contents, source=source, **columns)
    return Project(project.folder)


def add_photos(
    project: Project, root: Path, contents: Mapping[str, bytes], *, source: str = "cards", **columns: Any
) -> None:
    """Write photos below a root and into the catalogue, as their import does."""
    add_image_root(project.settings, root.name, root)
    with project.database.writing() as (connection, _):
        s = schema.sources
        if connection.execute(select(s.c.id).where(s.c.name == source)).first() is None:
            connection.execute(insert(s).values(name=source, format="photos", path=str(root), imported_at_utc="2024"))
        source_id = connection.execute(select(s.c.id).where(s.c.name == source)).scalar_one()
        for path, content in contents.items():
            file = root / path
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_bytes(content)
            known: dict[str, Any] = {
                "content_hash": hashlib.sha256(content).hexdigest(), "byte_size": len(content),
                "modified_ns": file.stat().st_mtime_ns, "status": "ok",
            }  # fmt: skip
            if columns.get("status", "ok") == "ok":
                facts = inspect(content, path)
                known |= {"width": facts.width, "height": facts.height}
            values = {"root": root.name, "path": path, "source_id": source_id, **known, **columns}
            connection.execute(insert(schema.images).values(**values))


def run(project: Project, detector: Any, **options: Any) -> DetectReport:
    """Look for animals in a project."""
    return detect(database=project.database, settings=project.settings, detector=detector, **options)


def rows(project: Project) -> list[dict[str, Any]]:
    """The annotations as their table has them, in the order they were made."""
    table = schema.annotation_table
    with project.database.reading() as connection:
        return [dict(row._mapping) for row in connection.execute(select(table).order_by(table.c.id))]


def images(project: Project) -> dict[str, dict[str, Any]]:
    """The images by their path."""
    with project.database.reading() as connection:
        return {row.path: dict(row._mapping) for row in connection.execute(select(schema.images))}


def box_of(row: Mapping[str, Any]) -> tuple[float, ...]:
    """Left, top, width and height of an annotation's row."""
    return tuple(row[name] for name in ("box_x", "box_y", "box_w", "box_h"))
