"""Computed files: written whole or not at all, hashed by content, and carrying a passport.

An artefact is never edited. Its passport, a JSON file beside it, keeps what decides its numbers apart from what is
only recorded; two artefacts fit each other when the deciding fields are equal.
"""

from __future__ import annotations

import csv
import hashlib
import json
import os
import tempfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from resight.errors import ArtefactMismatch
from resight.version import __version__

HASH_CHARACTERS = 32


@contextmanager
def atomic_path(target: Path, *, durable: bool = True) -> Iterator[Path]:
    """Give a temporary path beside ``target`` that takes its place when the block ends well.

    The block may write a file there. After an error, or when the process is killed, ``target`` is what it was.

    Args:
        target: The file to make or replace.
        durable: Whether to wait until the disk has it; off for caches that are cheap to make again.
    """
    target.parent.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(prefix=f".{target.name}.", suffix=target.suffix, dir=target.parent)
    os.close(handle)
    temporary = Path(name)
    try:
        yield temporary
        if durable:
            _flush_to_disk(temporary)
        temporary.chmod(0o666 & ~_UMASK)
        temporary.replace(target)
    finally:
        temporary.unlink(missing_ok=True)


def _read_umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask


_UMASK = _read_umask()  # read once: asking changes it for a moment, which threads must not see


def _flush_to_disk(path: Path) -> None:
    with path.open("rb+") as file:
        os.fsync(file.fileno())


def write_text(target: Path, text: str) -> None:
    """Write ``text`` as UTF-8, whole or not at all."""
    with atomic_path(target) as temporary:
        temporary.write_text(text, encoding="utf-8")


def write_json(target: Path, value: object) -> None:
    """Write ``value`` as readable JSON, whole or not at all; NaN is refused."""
    write_text(target, json.dumps(value, indent=2, ensure_ascii=False, allow_nan=False) + "\n")


def write_csv(target: Path, header: Sequence[str], rows: Iterable[Sequence[object]]) -> None:
    """Write a table as UTF-8 CSV with one line a row, whole or not at all; unknown values are empty cells."""
    with atomic_path(target) as temporary, temporary.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(header)
        writer.writerows(rows)


def content_hash(content: bytes | memoryview) -> str:
    """SHA-256 of a file's bytes, in hexadecimal."""
    return hashlib.sha256(content).hexdigest()


def key_of(*parts: object) -> str:
    """A short stable key of plain values (text, numbers, ``None``, lists, dicts of these).

    The same values give the same key on every machine; floats are compared by their exact value.
    """
    text = json.dumps(parts, sort_keys=True, separators=(",", ":"), ensure_ascii=True, allow_nan=False)
    return hashlib.sha256(text.encode()).hexdigest()[:HASH_CHARACTERS]


@dataclass(frozen=True)
class Passport:
    """What an artefact was made from.

    Attributes:
        kind: Such as ``chips`` or ``embeddings``.
        decides: The fields that change its numbers: weights' hash, preprocessing, algorithm version.
        recorded: Fields kept for the reader only.
    """

    kind: str
    decides: Mapping[str, Any]
    recorded: Mapping[str, Any] = field(default_factory=dict)

    def write(self, target: Path) -> None:
        """Write the passport as JSON, adding the package version and the time."""
        made = {
            "resight_version": __version__,
            "made_at_utc": datetime.now(UTC).isoformat(timespec="seconds"),
        }
        write_json(target, {"kind": self.kind, "decides": dict(self.decides), "recorded": {**made, **self.recorded}})

    @classmethod
    def read(cls, path: Path) -> Passport:
        """Read a passport.

        Raises:
            ArtefactMismatch: the file is no passport.
        """
        try:
            value = json.loads(path.read_text(encoding="utf-8"))
            return cls(str(value["kind"]), dict(value["decides"]), dict(value["recorded"]))
        except (OSError, ValueError, KeyError, TypeError) as error:
            what = "its folder" if path.name == "passport.json" else "it"  # some files bear their own passport
            raise ArtefactMismatch(
                f"{path} cannot be read as a passport ({error}); delete {what} to make it anew"
            ) from None

    def require_fit(self, expected: Passport, *, where: Path, remedy: str) -> None:
        """Refuse an artefact that was made from something else.

        Args:
            expected: What the artefact would be made from now.
            where: The artefact, for the message.
            remedy: The command that makes it anew.

        Raises:
            ArtefactMismatch: naming every deciding field that differs.
        """
        # Through JSON, so that a tuple equals the list it was written as.
        wanted = json.loads(json.dumps({"kind": expected.kind, **expected.decides}))
        found = json.loads(json.dumps({"kind": self.kind, **self.decides}))
        differing = [
            f"{name} is {_shown(found, name)} there and {_shown(wanted, name)} now"
            for name in sorted(found.keys() | wanted.keys())
            if _shown(found, name) != _shown(wanted, name)
        ]
        if differing:
            raise ArtefactMismatch(f"{where} was made from something else: {'; '.join(differing)}; {remedy}")


def _shown(fields: Mapping[str, Any], name: str) -> str:
    return repr(fields[name]) if name in fields else "not stated"
