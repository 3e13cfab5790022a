"""What fitting a head found, as files: JSON to read on, and the confusion table as CSV."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from resight.artefacts import write_csv, write_json
from resight.attributes.fitting import Metrics
from resight.attributes.head import Head
from resight.attributes.labels import Labelled


@dataclass(frozen=True)
class HeadReport:
    """A head and where its report lies."""

    head: Head
    metrics: Metrics
    report: Path
    confusion: Path


def write_report(head: Head, metrics: Metrics, labelled: Labelled, folder: Path) -> HeadReport:
    """Write ``attributes-FIELD.json`` and ``attributes-FIELD-confusion.csv``.

    Args:
        head: Fitted on ``labelled``.
        metrics: Of it.
        labelled: For what was left out.
        folder: The project's ``reports/``.

    Raises:
        OSError: the folder cannot be written.
    """
    report = folder / f"attributes-{head.field}.json"
    confusion = folder / f"attributes-{head.field}-confusion.csv"
    values = {
        "field": head.field,
        "head": head.name,
        "classes": list(head.classes),
        "species": list(head.species),
        "threshold": head.threshold,
        "temperature": head.temperature,
        "most_unlike": head.most_unlike,
        "left_out": dict(labelled.left_out),
        "out_of_fold": metrics.to_json(),
    }
    write_json(report, values)
    rows = [(value, *counts) for value, counts in zip(head.classes, metrics.confusion, strict=True)]
    write_csv(confusion, [f"{head.field} (rows: labelled, columns: said)", *head.classes], rows)
    return HeadReport(head, metrics, report, confusion)
