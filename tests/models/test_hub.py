from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from huggingface_hub import errors

from resight.errors import InputError
from resight.models.hub import KNOWN, fetch, is_cached, known_licence

REMEDY = "name its folder"


@pytest.fixture
def calls(monkeypatch: pytest.MonkeyPatch) -> Callable[[Any], list[dict[str, Any]]]:
    """Stand in for the hub: gives a function that sets its answer and returns the list of what it is asked."""

    def set_answer(answer: Any) -> list[dict[str, Any]]:
        asked: list[dict[str, Any]] = []

        def snapshot(repository: str, **settings: Any) -> str:
            asked.append({"repository": repository, **settings})
            if isinstance(answer, Exception):
                raise answer
            return str(answer)

        monkeypatch.setattr("huggingface_hub.snapshot_download", snapshot)
        return asked

    return set_answer


def refused(kind: type[errors.HfHubHTTPError]) -> Exception:
    return kind("401 Client Error.\n\nSee more", response=SimpleNamespace(headers={}, request=None))  # type: ignore[arg-type]


def test_only_config_weights_and_card_are_asked_for(tmp_path: Path, calls: Callable[[Any], list[Any]]) -> None:
    (tmp_path / "model.safetensors").write_bytes(b"")
    asked = calls(tmp_path)
    assert fetch("them/model", remedy=REMEDY, revision="v2") == tmp_path
    assert len(asked) == 1
    assert asked[0]["repository"] == "them/model"
    assert asked[0]["revision"] == "v2"
    assert sorted(asked[0]["allow_patterns"]) == ["README.md", "config.json", "model.safetensors"]
    assert 0 < asked[0]["etag_timeout"] <= 10


def test_a_pickled_file_is_asked_for_only_where_there_is_no_other(
    tmp_path: Path, calls: Callable[[Any], list[Any]]
) -> None:
    asked = calls(tmp_path)
    fetch("them/model", remedy=REMEDY)
    assert ["pytorch_model.bin" in call["allow_patterns"] for call in asked] == [False, True]


@pytest.mark.parametrize(
    ("error", "message"),
    [
        (refused(errors.GatedRepoError), "accept the terms on its page and set HF_TOKEN"),
        (refused(errors.RepositoryNotFoundError), "none of that name, or it is private"),
        (refused(errors.RevisionNotFoundError), "no such revision"),
        (refused(errors.HfHubHTTPError), "401 Client Error"),
        (errors.LocalEntryNotFoundError("no\nconnection"), "cannot be reached"),
        (errors.OfflineModeIsEnabled("offline"), "offline"),
        (errors.HFValidationError("Repo id is bad"), "Repo id is bad"),
        (errors.HfHubHTTPError.__bases__[0]("connection reset"), "connection reset"),  # the HTTP client's own
        (OSError(28, "No space left on device"), "No space left on device"),
        (RuntimeError("Data processing error: CAS service error"), "CAS service error"),  # of hf_xet
    ],
)
def test_what_goes_wrong_is_one_line_with_the_way_out(
    error: Exception, message: str, calls: Callable[[Any], list[Any]]
) -> None:
    calls(error)
    with pytest.raises(InputError, match=message) as caught:
        fetch("them/model", remedy=REMEDY)
    assert "'them/model'" in str(caught.value)
    assert str(caught.value).endswith(REMEDY)
    assert "\n" not in str(caught.value)


def test_offline_and_not_in_the_cache_fails_at_once(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    with pytest.raises(InputError, match="cannot be reached, and the model is not in the cache"):
        fetch("them/model", remedy=REMEDY)
    assert not is_cached("them/model")


def test_well_known_models_say_their_licence() -> None:
    assert known_licence("BVRA/MegaDescriptor-L-384") == "CC-BY-NC-4.0"
    assert known_licence("conservationxlabs/miewid-msv3") is None
    assert known_licence("them/model") is None
    assert all(model.name.count("/") == 1 for model in KNOWN)
