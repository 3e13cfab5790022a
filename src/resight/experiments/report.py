"""The report of an experiment: one self-contained page, and the same tables as CSV, JSON and Markdown.

``report.html`` asks for nothing outside itself: style, script, figures and the CSV behind each download link are part
of it. Beside it lie ``report.json``, ``report.md``, one CSV a table and a figure, and one SVG a figure.
"""

from __future__ import annotations

import base64
import json
import re
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path, PurePath
from typing import Any

from jinja2 import Environment, PackageLoader, select_autoescape
from markupsafe import Markup

from resight.artefacts import write_json, write_text
from resight.experiments.figures import Figure
from resight.experiments.plan import LeftOut
from resight.experiments.tables import NAME, Cell, Table, markdown, shown
from resight.version import __version__

_OURS = "report"
"""The name of the report's own files, which no table may have."""


@dataclass(frozen=True)
class Report:
    """What an experiment found.

    Attributes:
        experiment: Its name, as the command line has it.
        question: What it asks, in one sentence.
        method: How it was done, a paragraph each, in words.
        findings: What it shows, a sentence each.
        tables: In order.
        figures: In order.
        configs: Label of a run → all its settings, as JSON values.
        passport: What the numbers were made from.
        left_out: What is not answered, and why.
        warnings: What a reader must know before the numbers.

    Raises:
        ValueError: two tables or figures of one name.
    """

    experiment: str
    question: str
    method: tuple[str, ...]
    findings: tuple[str, ...]
    tables: tuple[Table, ...] = ()
    figures: tuple[Figure, ...] = ()
    configs: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    passport: Mapping[str, Any] = field(default_factory=dict)
    left_out: tuple[LeftOut, ...] = ()
    warnings: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        """Check that no file would be written twice."""
        names = [_OURS, *(table.name for table in self.tables), *(figure.name for figure in self.figures)]
        twice = sorted({name for name in names if names.count(name) > 1 or not NAME.fullmatch(name)})
        if twice:
            raise ValueError(f"report {self.experiment}: {', '.join(twice)} cannot name a table or figure, or is taken")


def write_report(report: Report, folder: Path) -> Path:
    """Write the report into ``folder``, each file whole or not at all, the page last.

    Files of an earlier report in the folder that this one no longer has are taken away; others are left alone.

    Returns:
        The page.

    Raises:
        ValueError: a setting or a passport holds what JSON has no word for; nothing is written then.
    """
    csv_of = {table.name: _csv_text(table) for table in report.tables}
    csv_of |= {figure.name: _csv_text(figure.data) for figure in report.figures}
    files = sorted([*(f"{name}.csv" for name in csv_of), *(f"{figure.name}.svg" for figure in report.figures)])
    document = _document(report, files)
    json.dumps(document, allow_nan=False)
    text, page = _markdown_page(report), _page(report, csv_of)

    stale = _written_before(folder) - set(files)
    for name, content in csv_of.items():
        write_text(folder / f"{name}.csv", content)
    for figure in report.figures:
        write_text(folder / f"{figure.name}.svg", f'<?xml version="1.0" encoding="utf-8"?>\n{figure.svg}')
    write_json(folder / f"{_OURS}.json", document)
    write_text(folder / f"{_OURS}.md", text)
    target = folder / f"{_OURS}.html"
    write_text(target, page)
    for file in stale:
        (folder / file).unlink(missing_ok=True)
    return target


def _csv_text(table: Table) -> str:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "table.csv"
        table.to_csv(path)
        return path.read_text(encoding="utf-8")


def _written_before(folder: Path) -> set[str]:
    """Names of the tables' and figures' files that an earlier report in ``folder`` lists as its own."""
    try:
        listed = json.loads((folder / f"{_OURS}.json").read_text(encoding="utf-8"))["files"]
        names = {str(name) for name in listed}
    except (OSError, ValueError, KeyError, TypeError):
        return set()
    # A bare name of ours only: the file may have been edited, and what it lists is deleted.
    return {name for name in names if re.fullmatch(rf"{NAME.pattern}\.(csv|svg)", name)}


def _document(report: Report, files: Sequence[str]) -> dict[str, Any]:
    return {
        "experiment": report.experiment,
        "question": report.question,
        "findings": list(report.findings),
        "warnings": list(report.warnings),
        "tables": [table.to_json() for table in report.tables],
        "figures": [
            {"name": f.name, "title": f.title, "caption": f.caption, "data": f.data.to_json()} for f in report.figures
        ],
        "left_out": [{"what": one.what, "reason": one.reason} for one in report.left_out],
        "method": list(report.method),
        "configs": {label: _plain(config, f"the settings of {label}") for label, config in report.configs.items()},
        "passport": _plain(report.passport, "the passport"),
        "files": list(files),
        "resight_version": __version__,
    }


def _plain(value: Any, where: str) -> Any:
    """Values as JSON has them: tuples and sets become lists, paths text, NumPy's scalars plain numbers."""
    if isinstance(value, Mapping):
        return {str(key): _plain(item, f"{where}, {key}") for key, item in value.items()}
    if isinstance(value, set | frozenset):
        return [_plain(item, where) for item in sorted(value)]
    if isinstance(value, list | tuple):
        return [_plain(item, where) for item in value]
    if isinstance(value, PurePath):
        return str(value)
    if value is None or isinstance(value, str | bool | int | float):
        return value
    item = getattr(value, "item", None)
    if callable(item) and getattr(value, "shape", None) == ():
        return _plain(item(), where)
    raise ValueError(f"{where} holds {value!r}, which JSON has no word for")


def _flat(config: Mapping[str, Any], prefix: str = "") -> dict[str, str]:
    """Settings with dotted names and their values as JSON text."""
    flat: dict[str, str] = {}
    for key, value in config.items():
        if isinstance(value, dict) and value:
            flat |= _flat(value, f"{prefix}{key}.")
        else:
            flat[f"{prefix}{key}"] = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
    return flat


def _shared_and_own(configs: Mapping[str, dict[str, str]]) -> tuple[dict[str, str], dict[str, dict[str, str]]]:
    """What all runs have in common, and what each has for itself; together every setting of every run."""
    if len(configs) < 2:
        return {}, dict(configs)
    first, *rest = configs.values()
    common = {key: value for key, value in first.items() if all(other.get(key) == value for other in rest)}
    return common, {label: {k: v for k, v in flat.items() if k not in common} for label, flat in configs.items()}


def _page(report: Report, csv_of: Mapping[str, str]) -> str:
    environment = Environment(
        loader=PackageLoader("resight.experiments", "."),
        autoescape=select_autoescape(),
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["shown"] = shown
    environment.filters["order"] = _order
    environment.filters["svg"] = _inline
    flat = {label: _flat(_plain(config, label)) for label, config in report.configs.items()}
    shared, own = _shared_and_own(flat)
    return environment.get_template("report.html").render(
        report=report,
        downloads={
            name: f"data:text/csv;charset=utf-8;base64,{base64.b64encode(text.encode()).decode()}"
            for name, text in csv_of.items()
        },
        shared=shared,
        own=own,
        passport=_flat(_plain(report.passport, "the passport")),
        version=__version__,
    )


def _order(cell: Cell) -> str:
    """What a column is sorted by in the page: a number in full, empty for what is not known or is no number."""
    if isinstance(cell, tuple):
        return repr(cell[0])
    if cell is None or isinstance(cell, str | bool):
        return ""
    return repr(cell)


def _inline(figure: Figure) -> Markup:
    # The one thing that is not escaped: matplotlib wrote it, and escaped every text in it.
    return Markup(figure.svg)


def _markdown_page(report: Report) -> str:
    parts = [f"# {markdown(report.experiment)}", markdown(report.question)]
    if report.warnings:
        parts += [f"> **Note.** {markdown(warning)}" for warning in report.warnings]
    parts += ["## Findings", _list(report.findings, "None.")]
    if report.tables:
        parts += ["## Tables", *(table.to_markdown().rstrip("\n") for table in report.tables)]
    if report.figures:
        parts.append("## Figures")
        for figure in report.figures:
            parts.append(f"![{markdown(figure.title)}]({figure.name}.svg)")
            parts.append(f"**{markdown(figure.title)}** {markdown(figure.caption)} Data: `{figure.name}.csv`.")
    parts.append("## Left out")
    parts.append(_list([f"{one.what}: {one.reason}" for one in report.left_out], "Nothing."))
    parts += ["## Method", *(markdown(paragraph) for paragraph in report.method)]
    parts += ["## Settings and passport", f"Every setting of every run stands in `{_OURS}.json`."]
    parts.append(
        _list([f"{key}: {value}" for key, value in _flat(_plain(report.passport, "the passport")).items()], "None.")
    )
    return "\n\n".join(parts) + "\n"


def _list(sentences: Sequence[str], empty: str) -> str:
    return "\n".join(f"- {markdown(sentence)}" for sentence in sentences) or empty
