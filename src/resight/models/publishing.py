"""A run's model as a folder that others can load, or as a repository on the hub.

The folder holds the weights and the config as resight stores them, so that it is a MODEL here, with what transformers
asks for besides: a few keys in the config, the module with the class, and the numbers of the preprocessing.
"""

from __future__ import annotations

import json
import re
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from importlib.resources import files
from pathlib import Path
from typing import Any

from packaging.licenses import InvalidLicenseExpression, canonicalize_license_expression

from resight.artefacts import write_json, write_text
from resight.errors import InputError, ResightError
from resight.models.config import CONFIG_FILE
from resight.models.embedder import Embedder
from resight.models.hub import HUB_PREFIX
from resight.models.model_card import RunRecord, model_card

CARD_FILE = "README.md"
MODULE_FILE = "modeling_resight.py"
PREPROCESSOR_FILE = "preprocessor_config.json"
FOLDER_WORD = "FOLDER"  # stands for the folder in a card that does not know where it will lie

_HUB_NAME = re.compile(r"\w[\w.-]*/\w[\w.-]*", re.ASCII)
_NON_COMMERCIAL = re.compile(r"\bBY-NC\b|non-?commercial", re.IGNORECASE)  # model cards write licences in lower case


@dataclass(frozen=True)
class Published:
    """What ``resight publish`` wrote.

    Attributes:
        run: The run.
        path: The folder, or ``hub:OWNER/NAME``: good as a MODEL.
        url: The page on the hub; ``None`` for a folder.
        private: Whether only its owners see the repository; ``None`` for a folder.
        files: Names of what was written.
        weights_hash: The same as the run's.
        licence: SPDX; ``None`` where none is stated.
        warnings: What the publisher should know.
    """

    run: str
    path: str
    url: str | None
    private: bool | None
    files: tuple[str, ...]
    weights_hash: str
    licence: str | None
    warnings: tuple[str, ...]


def publish(
    model_folder: Path,
    record: RunRecord,
    target: str,
    *,
    licence: str | None = None,
    public: bool = False,
    warnings: tuple[str, ...] = (),
) -> Published:
    """Write a run's model for others, whole or not at all.

    Args:
        model_folder: The run's model.
        record: The rest that is known of the run.
        target: A folder that is empty or not there, or ``hub:OWNER/NAME``.
        licence: SPDX identifier or expression of the licence of the weights.
        public: Let everybody see the repository; needs ``licence``.
        warnings: Are passed on.

    Raises:
        InputError: the folder is taken, a licence that is not SPDX, an impossible name, no token for the hub, or a
            hub that refuses it.
        ArtefactMismatch: the model's files do not fit each other.
        ResightError: the hub does not answer.
    """
    repository = _repository(target)
    spdx = None if licence is None else _spdx(licence)
    if public and repository is None:
        raise InputError(f"--public is for the hub, and {target!r} is a folder: name hub:OWNER/NAME or leave it out")
    if public and spdx is None:
        raise InputError("--public needs --licence SPDX, such as Apache-2.0: nobody may use weights without a licence")
    if repository is None:
        _require_free(Path(target))
    else:
        _require_token(repository)
    embedder = Embedder.load(model_folder)
    embedder.config = replace(embedder.config, licence=spdx)
    told = (*warnings, *_warnings(embedder, record))

    def result(**where: Any) -> Published:
        return Published(
            run=record.run, files=names, weights_hash=embedder.weights_hash, licence=spdx, warnings=told, **where
        )

    if repository is not None:
        with tempfile.TemporaryDirectory(prefix="resight-publish-") as temporary:
            names = _write(embedder, record, Path(temporary), model=repository)
            url, private = _upload(Path(temporary), repository, public=public, message=f"resight run {record.run}")
        if public and private:
            told = (*told, f"hub:{repository} was private before and stays so; its page on the hub changes that")
        return result(path=f"{HUB_PREFIX}{repository}", url=url, private=private)

    folder = Path(target).resolve()
    folder.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=f".{folder.name}.", dir=folder.parent) as temporary:
        fresh = Path(temporary) / folder.name
        names = _write(embedder, record, fresh, model=FOLDER_WORD)
        if folder.exists():
            folder.rmdir()  # empty, as was checked; not every system renames onto a folder
        fresh.rename(folder)
    return result(path=str(folder), url=None, private=None)


def read_evaluations(
    reports_folder: Path, run: str, weights_hash: str
) -> tuple[tuple[Mapping[str, Any], ...], tuple[str, ...]]:
    """Read what ``resight evaluate`` has kept of a run's model.

    Args:
        reports_folder: The project's ``reports``; need not exist.
        run: The run's name.
        weights_hash: Of its model: another model may have borne the name.

    Returns:
        One document a split, the newest, in order of the splits' names; and a warning for each file that is left out.
    """
    newest: dict[str, tuple[int, Mapping[str, Any]]] = {}
    warnings = []
    for path in sorted(reports_folder.glob(f"evaluate-{run}-*.json")):
        try:
            document = json.loads(path.read_text(encoding="utf-8"))
        except (OSError, ValueError) as error:
            warnings.append(f"{path} is left out, since it cannot be read ({error}): evaluate again")
            continue
        if not isinstance(document, dict) or document.get("model") != run:
            continue  # of a run whose name starts like this one's
        if document.get("weights_hash") != weights_hash:
            warnings.append(f"{path} is left out, since it is of other weights than the model's: evaluate again")
            continue
        split, written_ns = str(document.get("split")), path.stat().st_mtime_ns
        if split not in newest or newest[split][0] < written_ns:
            newest[split] = written_ns, document
    return tuple(document for _, (_, document) in sorted(newest.items())), tuple(warnings)


def _write(embedder: Embedder, record: RunRecord, folder: Path, *, model: str) -> tuple[str, ...]:
    config = embedder.config
    embedder.save(folder)
    stored = json.loads((folder / CONFIG_FILE).read_text(encoding="utf-8"))
    module = MODULE_FILE.removesuffix(".py")
    for_transformers = {
        "architectures": ["ResightModel"],
        "auto_map": {"AutoConfig": f"{module}.ResightConfig", "AutoModel": f"{module}.ResightModel"},
        "model_type": "resight",
        "torch_dtype": "float32",
    }
    write_json(folder / CONFIG_FILE, {**for_transformers, **stored})
    write_json(
        folder / PREPROCESSOR_FILE,
        {
            "image_processor_type": "ViTImageProcessor",
            "do_resize": True,
            "size": {"height": config.image_size, "width": config.image_size},
            "resample": 2,  # bilinear, as chips are cut
            "do_rescale": True,
            "rescale_factor": 1 / 255,
            "do_normalize": True,
            "image_mean": list(config.mean),
            "image_std": list(config.std),
        },
    )
    write_text(folder / MODULE_FILE, files("resight.models").joinpath(MODULE_FILE).read_text(encoding="utf-8"))
    card = model_card(
        record,
        config,
        parameters=sum(parameter.numel() for parameter in embedder.parameters()),
        weights_hash=embedder.weights_hash,
        published=datetime.now(UTC).strftime("%Y-%m-%d"),
        model=model,
    )
    write_text(folder / CARD_FILE, card)
    return tuple(sorted(path.name for path in folder.iterdir()))


def _repository(target: str) -> str | None:
    if not target.startswith(HUB_PREFIX):
        return None
    name = target.removeprefix(HUB_PREFIX)
    if not _HUB_NAME.fullmatch(name) or "--" in name or ".." in name or name.endswith((".git", ".", "-")):
        raise InputError(f"{target!r}: expected hub:OWNER/NAME, each of letters, digits, '-', '_' and '.'")
    return name


def _spdx(licence: str) -> str:
    try:
        return canonicalize_license_expression(licence)
    except InvalidLicenseExpression:
        raise InputError(
            f"--licence {licence!r}: expected an SPDX identifier such as Apache-2.0, CC-BY-4.0 or LicenseRef-NAME "
            "(https://spdx.org/licenses)"
        ) from None


def _require_free(folder: Path) -> None:
    if folder.is_symlink() or (folder.exists() and (not folder.is_dir() or any(folder.iterdir()))):
        raise InputError(f"{folder} exists and is not empty: name another folder, or empty it first")


def _warnings(embedder: Embedder, record: RunRecord) -> list[str]:
    told = []
    if embedder.config.licence is None:
        told.append("no licence is stated, so all rights are reserved by default: say one with --licence SPDX")
    if not record.evaluations:
        told.append(
            f"the card says that the model is not evaluated: resight evaluate --split NAME --model {record.run}"
        )
    if _NON_COMMERCIAL.search(embedder.config.weights_source):
        told.append(
            f"training started from weights for non-commercial use ({embedder.config.weights_source}): see that the "
            "licence you state may be given"
        )
    return told


def _require_token(repository: str) -> None:
    from huggingface_hub import get_token

    if get_token() is None:
        raise InputError(
            f"hub:{repository} needs a token that may write: make one at https://huggingface.co/settings/tokens and "
            "set HF_TOKEN, or log in with: hf auth login"
        )


def _upload(folder: Path, repository: str, *, public: bool, message: str) -> tuple[str, bool]:
    """Upload all of a folder in one commit; gives the page, and whether the repository is private.

    Raises:
        InputError: the hub refuses the token, or the repository is public and ``public`` was not said.
        ResightError: the hub does not answer, or fails.
    """
    from huggingface_hub import HfApi
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError

    client_error: Any = HfHubHTTPError.__bases__[0]  # of the library's HTTP client, which changed between releases
    api = HfApi()
    try:
        url = str(api.create_repo(repository, private=not public, exist_ok=True))
        private = bool(api.model_info(repository).private)
        if not private and not public:  # one that is there keeps its visibility, whatever create_repo is told
            raise InputError(
                f"hub:{repository} is public: everybody would see the model; say --public, or name another repository"
            )
        api.upload_folder(repo_id=repository, folder_path=folder, commit_message=message)
    except HFValidationError as error:
        raise InputError(f"hub:{repository}: {_first_line(error)}; name it otherwise") from None
    except (OSError, RuntimeError, client_error) as error:  # RuntimeError: of what moves large files (hf_xet)
        status = getattr(getattr(error, "response", None), "status_code", None)
        if status in (401, 403):
            owner = repository.partition("/")[0]
            raise InputError(
                f"hub:{repository}: the hub refuses the token ({status}): take one that may write for {owner}, from "
                "https://huggingface.co/settings/tokens"
            ) from None
        raise ResightError(
            f"hub:{repository}: nothing was uploaded ({_first_line(error)}); publish into a folder, or try again when "
            "the hub can be reached"
        ) from None
    return url, private


def _first_line(error: Exception) -> str:
    return str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
