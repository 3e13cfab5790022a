from __future__ import annotations

import json
import os
import stat
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from resight.artefacts import Passport, atomic_path, content_hash, key_of, write_json, write_text
from resight.errors import ArtefactMismatch
from resight.version import __version__

PLAIN = st.recursive(
    st.none() | st.booleans() | st.integers(-1000, 1000) | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)


def test_a_block_that_ends_well_replaces_the_file_and_leaves_nothing_else(tmp_path: Path) -> None:
    target = tmp_path / "deep" / "er" / "report.json"
    with atomic_path(target) as temporary:
        assert temporary.parent == target.parent
        assert temporary.suffix == ".json"
        temporary.write_text("new", encoding="utf-8")
        assert not target.exists()
    assert target.read_text(encoding="utf-8") == "new"
    assert [path.name for path in target.parent.iterdir()] == ["report.json"]


@pytest.mark.parametrize("error", [RuntimeError, KeyboardInterrupt])
def test_a_block_that_fails_leaves_the_old_file_and_nothing_else(tmp_path: Path, error: type[BaseException]) -> None:
    target = tmp_path / "report.json"
    target.write_text("old", encoding="utf-8")
    with pytest.raises(error), atomic_path(target) as temporary:  # noqa: PT012
        temporary.write_text("half", encoding="utf-8")
        raise error
    assert target.read_text(encoding="utf-8") == "old"
    assert [path.name for path in tmp_path.iterdir()] == ["report.json"]


def test_a_written_file_has_the_mode_of_any_new_file(tmp_path: Path) -> None:
    for durable in (True, False):
        with atomic_path(tmp_path / "atomic", durable=durable) as temporary:
            temporary.write_bytes(b"x")
        (tmp_path / "plain").write_bytes(b"x")
        modes = [stat.S_IMODE(os.stat(tmp_path / name).st_mode) for name in ("atomic", "plain")]  # noqa: PTH116
        assert modes[0] == modes[1]


def test_text_is_utf8_and_json_has_no_nan(tmp_path: Path) -> None:
    write_text(tmp_path / "a.txt", "Ñandú")
    assert (tmp_path / "a.txt").read_bytes() == "Ñandú".encode()
    write_json(tmp_path / "a.json", {"name": "Ñandú", "n": 1})
    assert json.loads((tmp_path / "a.json").read_text(encoding="utf-8")) == {"name": "Ñandú", "n": 1}
    with pytest.raises(ValueError, match="not JSON compliant"):
        write_json(tmp_path / "a.json", {"n": float("nan")})
    assert json.loads((tmp_path / "a.json").read_text(encoding="utf-8"))["n"] == 1


def test_the_content_hash_is_sha256() -> None:
    assert content_hash(b"abc") == "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"


def test_keys_are_the_same_on_every_machine_and_in_every_release() -> None:
    # The literal is sha256 of ["chip",1,256,"ab",[1.5,2.0,3.0,4.0],0.1], cut to 32 characters.
    assert key_of("chip", 1, 256, "ab", [1.5, 2.0, 3.0, 4.0], 0.1) == "d3455e58e546e8bf1d84f7692bd6a867"
    assert key_of({"b": 1, "a": None}) == key_of({"a": None, "b": 1})


@given(PLAIN, PLAIN)
def test_other_values_have_other_keys(one: object, other: object) -> None:
    as_text = [json.dumps(value, sort_keys=True) for value in (one, other)]
    assert (key_of(one) == key_of(other)) == (as_text[0] == as_text[1])
    assert key_of(one, other) != key_of([one, other])


def test_floats_are_told_apart_by_their_last_bit() -> None:
    assert key_of(0.1 + 0.2) != key_of(0.3)
    with pytest.raises(ValueError, match="not JSON compliant"):
        key_of(float("nan"))


def test_a_passport_is_read_as_it_was_written(tmp_path: Path) -> None:
    written = Passport("embeddings", {"weights_hash": "a", "mean": (0.5, 0.5)}, {"host": "laptop"})
    written.write(tmp_path / "passport.json")
    read = Passport.read(tmp_path / "passport.json")
    assert (read.kind, read.decides) == ("embeddings", {"weights_hash": "a", "mean": [0.5, 0.5]})
    assert read.recorded["host"] == "laptop"
    assert read.recorded["resight_version"] == __version__
    # A tuple and the list it was written as are the same, whichever side it is on.
    read.require_fit(written, where=tmp_path, remedy="no remedy")
    written.require_fit(read, where=tmp_path, remedy="no remedy")


def test_what_is_only_recorded_does_not_decide(tmp_path: Path) -> None:
    Passport("chips", {"size": 1}, {"host": "a"}).require_fit(
        Passport("chips", {"size": 1}, {"host": "b"}), where=tmp_path, remedy=""
    )


def test_a_mismatch_names_every_field_that_differs_and_no_other() -> None:
    there = Passport("embeddings", {"weights_hash": "a", "dim": 8, "size": 256, "old": None})
    now = Passport("chips", {"weights_hash": "b", "dim": 8, "size": 440, "new": 1})
    with pytest.raises(ArtefactMismatch) as caught:
        there.require_fit(now, where=Path("embeddings/m"), remedy="make it anew")
    message = str(caught.value)
    assert message == (
        "embeddings/m was made from something else: kind is 'embeddings' there and 'chips' now; "
        "new is not stated there and 1 now; old is None there and not stated now; size is 256 there and 440 now; "
        "weights_hash is 'a' there and 'b' now; make it anew"
    )


@pytest.mark.parametrize(
    "content",
    ["", "{", "[]", '"text"', '{"kind": "chips"}', '{"kind": "chips", "decides": [1], "recorded": {}}', "\xff"],
)
def test_what_is_no_passport_is_an_error_that_names_the_file(tmp_path: Path, content: str) -> None:
    file = tmp_path / "passport.json"
    file.write_bytes(content.encode("latin-1"))
    with pytest.raises(ArtefactMismatch, match=r"passport\.json cannot be read as a passport .* delete its folder"):
        Passport.read(file)


def test_a_passport_that_is_not_there_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(ArtefactMismatch, match="cannot be read"):
        Passport.read(tmp_path / "passport.json")


def test_of_a_file_with_its_own_passport_only_that_file_is_to_be_deleted(tmp_path: Path) -> None:
    file = tmp_path / "shares.json"
    file.write_text("{", encoding="utf-8")
    with pytest.raises(ArtefactMismatch, match=r"shares\.json cannot be read as a passport .* delete it to make"):
        Passport.read(file)
