"""Projects and labelled photos made by code, for tests of the catalogue."""

from __future__ import annotations

import csv
import hashlib
import sqlite3
from collections.abc import Mapping, Sequence
from contextlib import closing
from pathlib import Path
from typing import Any

from alembic import command
from alembic.config import Config
from PIL import Image
from sqlalchemy import Connection, MetaData, create_engine, select, update

from resight.catalogue import schema, store
from resight.catalogue.intake import ImportOptions, ImportReport
from resight.project import Project
from resight.types import Annotation

WIDTH, HEIGHT = 60, 40
Row = dict[str, Any]


def draw_photo(file: Path, *, kind: str = "", exif: Image.Exif | None = None) -> Path:
    """A small picture whose content follows from its name and ``kind``."""
    shade = hashlib.sha256(f"{file.name}{kind}".encode()).digest()
    file.parent.mkdir(parents=True, exist_ok=True)
    picture = Image.new("RGB", (WIDTH, HEIGHT), (shade[0], shade[1], shade[2]))
    picture.putpixel((0, 0), (shade[3], shade[4], shade[5]))
    picture.save(file, **({} if exif is None else {"exif": exif}))
    return file


def row(number: int, **changes: Any) -> Row:
    """A zebra on a photo of its own, without an id."""
    plain = {
        "path": f"{number}.png", "individual": f"z{number}", "species": "zebra", "viewpoint": "left",
        "date": f"2024-05-{number + 1:02}", "x": 1, "y": 2, "w": 30, "h": 20,
    }  # fmt: skip
    return {**plain, **changes}


def write_rows(file: Path, rows: Sequence[Mapping[str, Any]], *, delimiter: str = ",", encoding: str = "utf-8") -> Path:
    """Write rows as a table, unknown values empty."""
    file.parent.mkdir(parents=True, exist_ok=True)
    with file.open("w", newline="", encoding=encoding) as stream:
        writer = csv.DictWriter(stream, list(rows[0]), delimiter=delimiter)
        writer.writeheader()
        writer.writerows(rows)
    return file


def herd(folder: Path, rows: Sequence[Mapping[str, Any]], name: str = "herd.csv", kind: str = "") -> Path:
    """Write a table and draw the photos it names."""
    for entry in rows:
        draw_photo(folder / entry["path"], kind=kind)
    return write_rows(folder / name, rows)


def two_species(folder: Path, *, animals: int) -> Path:
    """Write a table of lions and zebras, each animal met on 5 days, and draw its photos."""
    rows = [
        row(number, path=f"{species}{number}.png", species=species, individual=f"{species}{number // 5}",
            date=f"2024-05-{number % 5 + 1:02}")
        for species in ("lion", "zebra")
        for number in range(5 * animals)
    ]  # fmt: skip
    return herd(folder, rows)


def do_import(project: Project, path: Path, **options: Any) -> ImportReport:
    return project.import_(path, ImportOptions(**options))


def annotations(project: Project) -> list[Annotation]:
    """Every annotation, by file name and box."""
    with project.database.reading() as connection:
        found = store.list_annotations(connection, project.settings)
    return sorted(found, key=lambda a: (a.file_name, 0.0 if a.box is None else a.box.x))


def contents(project: Project, *, without: Sequence[str] = ()) -> dict[str, list[tuple[Any, ...]]]:
    """All rows of all tables but those named."""
    tables = MetaData()
    with project.database.reading() as connection:
        tables.reflect(connection)
        return {
            name: [tuple(found) for found in connection.execute(select(table).order_by(*table.primary_key))]
            for name, table in tables.tables.items()
            if name not in without
        }


def ledger(project: Project) -> list[Mapping[str, Any]]:
    with project.database.reading() as connection:
        return [found._mapping for found in connection.execute(select(schema.ledger).order_by(schema.ledger.c.id))]


def decide(connection: Connection, annotation_id: str, individual_id: int | None) -> None:
    """What a person's decision does to an annotation."""
    table = schema.annotation_table
    connection.execute(update(table).where(table.c.key == annotation_id).values(individual_id=individual_id))


def with_settings(project: Project, text: str, *, under: str | None = None) -> Project:
    """Add lines to ``resight.toml``, below the heading of a table or at the end, and open the project anew."""
    file = project.settings.file
    before = file.read_text(encoding="utf-8")
    if under is None:
        file.write_text(f"{before}\n{text}\n", encoding="utf-8")
    else:
        assert f"[{under}]\n" in before
        file.write_text(before.replace(f"[{under}]\n", f"[{under}]\n{text}\n", 1), encoding="utf-8")
    return Project(project.folder)


def make_older(file: Path, version: str) -> None:
    """Turn a catalogue into one of an earlier schema, with the rows that it can hold."""
    newer = file.with_suffix(".newer")
    file.rename(newer)
    config = Config()
    config.set_main_option("script_location", str(Path(schema.__file__).parent / "migrations"))
    config.set_main_option("path_separator", "os")
    engine = create_engine(f"sqlite:///{file}")
    with engine.connect() as connection:
        config.attributes["connection"] = connection
        command.upgrade(config, version)
        connection.commit()
    engine.dispose()
    with closing(sqlite3.connect(file)) as connection:
        connection.execute("ATTACH ? AS newer", [str(newer)])
        names = [name for (name,) in connection.execute("SELECT name FROM main.sqlite_master WHERE type = 'table'")]
        for name in sorted(set(names) - {"alembic_version"}):
            columns = ", ".join(f'"{column[1]}"' for column in connection.execute(f"PRAGMA main.table_info('{name}')"))
            connection.execute(f"DELETE FROM main.{name}")
            connection.execute(f"INSERT INTO main.{name} ({columns}) SELECT {columns} FROM newer.{name}")
        connection.commit()
    newer.unlink()
