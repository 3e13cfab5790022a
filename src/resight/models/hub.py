"""Models on the Hugging Face hub: which are well known, which are here already, and how one is fetched.

Only the config, the weights and the model card are fetched, into the usual cache of huggingface_hub; a token and the
offline switch are taken from the environment as that library takes them. Answers without torch.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass
from pathlib import Path

from resight.errors import InputError
from resight.models.config import CONFIG_FILE, WEIGHTS_FILE
from resight.models.layouts import CARD_FILE, PICKLED_WEIGHTS_FILE

logger = logging.getLogger(__name__)

HUB_PREFIX = "hub:"
_PATIENCE_S = 5.0  # for the first answer of the hub


@dataclass(frozen=True)
class HubModel:
    """A well-known public model; ``licence`` is ``None`` where its page states none."""

    name: str
    backbone: str
    dim: int
    image_size: int
    licence: str | None


KNOWN = (
    HubModel("BVRA/MegaDescriptor-L-384", "swin_large_patch4_window12_384", 1536, 384, "CC-BY-NC-4.0"),
    HubModel("conservationxlabs/miewid-msv2", "efficientnetv2_rw_m", 2152, 440, None),
    HubModel("conservationxlabs/miewid-msv3", "efficientnetv2_rw_m", 2152, 440, None),
)


def known_licence(repository: str) -> str | None:
    """The licence of a well-known model whose folder has no card."""
    return next((model.licence for model in KNOWN if model.name == repository), None)


def is_cached(repository: str) -> bool:
    """Whether a model's config and weights are in the cache; the network is not asked."""
    from huggingface_hub import try_to_load_from_cache

    def there(name: str) -> bool:
        return isinstance(try_to_load_from_cache(repository, name), str)

    return there(CONFIG_FILE) and (there(WEIGHTS_FILE) or there(PICKLED_WEIGHTS_FILE))


def fetch(repository: str, *, remedy: str, revision: str | None = None) -> Path:
    """Bring a model's files into the cache, or find them there.

    Args:
        repository: ``OWNER/NAME``.
        remedy: What the user can do where it cannot be had; one clause.
        revision: A branch, tag or commit; ``None`` for the newest.

    Returns:
        The folder in the cache.

    Raises:
        InputError: it cannot be reached, is not there, or its owner has not let this user in.
    """
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import (
        GatedRepoError,
        HfHubHTTPError,
        LocalEntryNotFoundError,
        RepositoryNotFoundError,
        RevisionNotFoundError,
    )

    # The library lets errors of its HTTP client through, which is another one from release to release; what moves the
    # large files (hf_xet) raises RuntimeError.
    of_the_client = [base for base in HfHubHTTPError.__bases__ if issubclass(base, Exception)]
    failures: tuple[type[Exception], ...] = (OSError, ValueError, RuntimeError, *of_the_client)
    wanted = [CONFIG_FILE, WEIGHTS_FILE, CARD_FILE]
    name = f"{repository}@{revision}" if revision else repository
    logger.info("looking for %s on the hub", name)
    try:
        folder = Path(snapshot_download(repository, revision=revision, allow_patterns=wanted, etag_timeout=_PATIENCE_S))
        if not (folder / WEIGHTS_FILE).is_file():
            folder = Path(
                snapshot_download(
                    repository,
                    revision=revision,
                    allow_patterns=[*wanted, PICKLED_WEIGHTS_FILE],
                    etag_timeout=_PATIENCE_S,
                )
            )
    except GatedRepoError:
        reason = "its owner lets in only users who asked: accept the terms on its page and set HF_TOKEN"
    except RepositoryNotFoundError:
        reason = "there is none of that name, or it is private and HF_TOKEN is not set to a token that may read it"
    except RevisionNotFoundError:
        reason = "it has no such revision"
    except LocalEntryNotFoundError:
        reason = "the hub cannot be reached, and the model is not in the cache"
    except failures as error:
        text = str(error).strip()
        reason = text.splitlines()[0] if text else type(error).__name__
    else:
        return folder
    raise InputError(f"model {name!r} cannot be had from the hub ({reason}); {remedy}")
