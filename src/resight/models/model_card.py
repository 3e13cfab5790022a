"""The model card: the page that tells a stranger what a published model is, how good it is and where it ends.

It bears counts, figures and the names of species and sources; no photo, place or individual is named in it.
"""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import PurePath
from typing import Any

from resight.models.config import EmbedderConfig
from resight.models.hub import HUB_PREFIX
from resight.models.library import MODEL_FOLDER
from resight.version import __version__

# Licences that the hub knows by the lower-case form of their SPDX identifier; any other is stated as "other".
HUB_LICENCES = frozenset({
    "agpl-3.0", "apache-2.0", "bsd-2-clause", "bsd-3-clause", "bsl-1.0", "cc-by-2.0", "cc-by-3.0", "cc-by-4.0",
    "cc-by-nc-2.0", "cc-by-nc-3.0", "cc-by-nc-4.0", "cc-by-nc-nd-3.0", "cc-by-nc-nd-4.0", "cc-by-nc-sa-2.0",
    "cc-by-nc-sa-3.0", "cc-by-nc-sa-4.0", "cc-by-nd-4.0", "cc-by-sa-3.0", "cc-by-sa-4.0", "cc0-1.0", "ecl-2.0",
    "eupl-1.1", "eupl-1.2", "gpl-2.0", "gpl-3.0", "isc", "lgpl-2.1", "lgpl-3.0", "mit", "mpl-2.0", "unlicense",
})  # fmt: skip


_ON_HUB = re.compile(r"\b(?:hub:|timm hub )([\w.-]+/[\w.-]*\w)")
_NOT_COMPARABLE = (
    "**Not comparable.** The run was trained on more, or on something else, than the training side of this split: do "
    "not set these figures beside those of a model that was not."
)


@dataclass(frozen=True)
class CataloguedSpecies:
    """What the catalogue says of a species: which sources it came from, and how its sides are treated."""

    species: str
    sources: tuple[str, ...]
    policy: str


@dataclass(frozen=True)
class RunRecord:
    """What is known of a run besides its model.

    Attributes:
        run: Its name.
        config: Its ``config.json``.
        catalogue: The catalogue's species as they are now.
        evaluations: Documents of ``resight evaluate`` on the run's model, the newest first.
    """

    run: str
    config: Mapping[str, Any]
    catalogue: tuple[CataloguedSpecies, ...] = ()
    evaluations: tuple[Mapping[str, Any], ...] = ()


def model_card(
    record: RunRecord, config: EmbedderConfig, *, parameters: int, weights_hash: str, published: str, model: str
) -> str:
    """Write the card.

    Args:
        record: The run.
        config: Of the published model; its ``licence`` is the one that is stated.
        parameters: How many numbers the network has learned.
        weights_hash: Of the weights.
        published: The day, ``YYYY-MM-DD``.
        model: What a reader loads: the hub's name, or a word that stands for the folder.

    Returns:
        Markdown, with the hub's metadata as its head.
    """
    sections = (
        _head(config),
        _title(record, config, parameters, weights_hash, published),
        _use(config, model, hub="/" in model),
        _training_data(record),
        _training(record),
        _evaluation(record),
        _limits(record),
        _licence(config),
    )
    return "\n".join(line for section in sections for line in (*section, "")).rstrip("\n") + "\n"


def hub_licence(spdx: str) -> str:
    """The hub's identifier of an SPDX licence, ``other`` where it has none."""
    plain = spdx.lower().removesuffix("-only").removesuffix("-or-later")
    return plain if plain in HUB_LICENCES else "other"


def _head(config: EmbedderConfig) -> list[str]:
    lines = ["---"]
    if config.licence is not None:
        name = hub_licence(config.licence)
        lines.append(f"license: {name}")
        if name == "other":
            lines.append(f"license_name: {json.dumps(config.licence)}")
    base = _ON_HUB.search(config.weights_source)
    if base is not None:
        lines.append(f"base_model: {base[1]}")
    lines += ["library_name: transformers", "pipeline_tag: image-feature-extraction", "tags:"]
    lines += [f"- {tag}" for tag in ("resight", "timm", "animal-re-identification", "wildlife")]
    return [*lines, "---"]


def _title(record: RunRecord, config: EmbedderConfig, parameters: int, weights_hash: str, published: str) -> list[str]:
    versions = record.config.get("versions", {})
    trained_with = ", ".join(f"{name} {versions[name]}" for name in ("resight", "torch", "timm") if name in versions)
    columns = "" if config.gem_columns == 1 else f" in {config.gem_columns} columns"
    gem = f"GeM over {_counted(config.gem_levels, 'map')}{columns}"
    pooling = "the backbone's own" if config.pooling == "backbone" else gem
    neck = "BatchNorm" if config.neck == "batchnorm" else "none"
    return [
        f"# {_cell(record.run)}: tells individual animals apart",
        "",
        "The network turns the cut-out picture of one animal into a vector. Pictures of one individual have vectors "
        f"with a high cosine. One set of weights serves {_counted(len(_trained(record)), 'species', 'species')}. "
        "Trained with resight.",
        "",
        *_table(
            ("", ""),
            [
                ("run", record.run),
                ("backbone", f"timm `{config.backbone}`, output stride {config.output_stride}"),
                ("pooling, neck", f"{pooling}; {neck}"),
                ("embedding", f"{config.dim:,} numbers, not of unit length"),
                ("picture", f"{config.image_size} × {config.image_size} pixels, RGB, squashed to a square"),
                ("parameters", f"{parameters:,}"),
                ("weights come from", config.weights_source),
                ("hash of the weights", f"`{weights_hash}`"),
                ("trained with", trained_with or "not recorded"),
                ("published", f"{published}, with resight {__version__}"),
            ],
        ),
    ]


def _use(config: EmbedderConfig, model: str, *, hub: bool) -> list[str]:
    named = f"hub:{model}" if hub else model
    return [
        "## How to use it",
        "",
        "With resight, which cuts the animals out of their photos and compares them:",
        "",
        "```console",
        f"$ resight embed --model {named}",
        f"$ resight match photo.jpg --model {named}",
        "```",
        "",
        "With transformers and timm. The class is in `modeling_resight.py`, beside the weights: read it before you "
        "trust it.",
        "",
        "```python",
        "import torch",
        "from PIL import Image",
        "from transformers import AutoModel",
        "",
        f'model = AutoModel.from_pretrained("{model}", trust_remote_code=True).eval()',
        'crop = Image.open("photo.jpg").crop((left, top, right, bottom))  # one animal, upright',
        "with torch.inference_mode():",
        f"    embedding = model(model.preprocess(crop)).pooler_output  # (1, {config.dim}); compare by cosine",
        "```",
    ]


def _trained(record: RunRecord) -> list[tuple[str, int, int]]:
    """(species, annotations, identities) of the training set, by species; mirror images are not counted."""
    classes = [one for one in record.config.get("classes", ()) if not one.get("mirrored")]
    identities = Counter(str(one["species"]) for one in classes)
    annotations: Counter[str] = Counter()
    for one in classes:
        annotations[str(one["species"])] += int(one["annotations"])
    return [(species, annotations[species], identities[species]) for species in sorted(identities)]


def _training_data(record: RunRecord) -> list[str]:
    known = {one.species: one for one in record.catalogue}
    trained = _trained(record)
    rows: list[tuple[object, ...]] = []
    for row in trained:
        entry = known.get(row[0])
        rows.append((*row, None, None) if entry is None else (*row, entry.policy, ", ".join(entry.sources)))
    rows.append(("all", sum(row[1] for row in trained), sum(row[2] for row in trained), "", ""))
    skipped = len(record.config.get("skipped", ()))
    return [
        "## Training data",
        "",
        "An identity is an individual, or one side of an individual where the sides of its species are told apart. The "
        "sources are those of the catalogue for the species; their own licences and terms hold for the photos, which "
        "are not part of this model.",
        "",
        *_table(("species", "annotations", "identities", "viewpoints", "sources"), rows),
        *(["", f"{_counted(skipped, 'annotation')} had no usable picture and took no part."] if skipped else []),
    ]


def _training(record: RunRecord) -> list[str]:
    teachers = [_without_folders(str(name)) for name in record.config.get("teachers") or ()]
    recipe = dict(record.config.get("recipe", {}))
    name, assumed = recipe.pop("name", "not recorded"), recipe.pop("assumed", ())
    augment = recipe.pop("augment", {})
    if isinstance(recipe.get("weights"), str):
        recipe["weights"] = _without_folders(recipe["weights"])
    settings = {**recipe, **{f"augment.{key}": value for key, value in augment.items()}}
    told = (
        f"Its source does not state these values, they are assumed: {', '.join(f'`{key}`' for key in assumed)}."
        if assumed
        else "None of its values is marked as assumed."
    )
    return [
        "## Training",
        "",
        f"Recipe `{name}`, on the training side of split `{record.config.get('split', 'not recorded')}`. {told}"
        + (f" It learned to repeat the cosines of: {', '.join(map(_cell, teachers))}." if teachers else ""),
        "",
        "```",
        *(f"{key} = {'none' if value is None else value}" for key, value in settings.items()),
        "```",
    ]


def _evaluation(record: RunRecord) -> list[str]:
    lines = ["## Evaluation", ""]
    if not record.evaluations:
        return [*lines, "Not evaluated: nothing is known of how well this model tells individuals apart."]
    lines.append(
        "In percent. Every test annotation is compared with all others of its species but those of its own encounter; "
        "top-k is the share of queries with their own identity among the k nearest. The 95 % interval is drawn over "
        "identities. Excluded are queries without another encounter to find. *Seen* identities have photos in the "
        "training side of the split."
    )
    for document in record.evaluations:
        lines += ["", f"### Split `{document.get('split')}`", "", *_figures(document)]
        if document.get("comparable") is False:
            lines += ["", _NOT_COMPARABLE]
    return lines


def _figures(document: Mapping[str, Any]) -> list[str]:
    keys = ("queries", "individuals", "excluded", "top1", "top1_ci95", "top5", "top10", "top20", "map", "top1_seen",
            "top1_unseen")  # fmt: skip
    header = ("species", "queries", "identities", "excluded", "top-1", "95 % interval", "top-5", "top-10", "top-20",
              "mAP", "top-1 seen", "top-1 unseen")  # fmt: skip
    rows = [(row.get("species"), *(row.get(key) for key in keys)) for row in document.get("species", ())]
    macro = document.get("macro", {})
    rows.append(("mean over species", None, None, None, *(macro.get(key) for key in keys[3:])))
    return _table(header, rows)


def _limits(record: RunRecord) -> list[str]:
    apart = [one.species for one in record.catalogue if one.policy == "separate"]
    apart = [species for species, _, _ in _trained(record) if species in apart]
    sides = f" That holds here for: {', '.join(map(_cell, apart))}." if apart else ""
    return [
        "## Limits",
        "",
        "- **Other species.** Nothing is known of species and body parts that the tables do not name. Compare an "
        "animal only with others of its species.",
        "- **Scores are not probabilities.** A cosine says what is nearer, not how sure the model is, and a threshold "
        "found on one species or catalogue does not carry to another. There is always a nearest animal, also for one "
        "that was never seen before: let a person decide.",
        "- **Sides.** The left and the right of an animal may bear different patterns. Where the viewpoints are "
        f"`separate`, the sides were trained as different identities and are not matched.{sides}",
        "- **Encounters.** Photos of one encounter share their light and background and are easy to match. Leave a "
        "query's own encounter out, or figures look better than the model is.",
        "- **Pictures.** The network expects one upright animal, cut out by its box. Whole photos, other boxes or "
        "another way to resize move the vectors; vectors of two models are never comparable.",
    ]


def _licence(config: EmbedderConfig) -> list[str]:
    stated = (
        f"The weights are under {config.licence}."
        if config.licence is not None
        else "No licence is stated for the weights: all rights are reserved by default. Ask before you use them."
    )
    return [
        "## Licence",
        "",
        f"{stated} Where they come from, and the licence of the weights that training started with: "
        f"{_cell(config.weights_source)}. `modeling_resight.py` is under Apache-2.0.",
    ]


def _table(header: Sequence[str], rows: Iterable[Sequence[object]]) -> list[str]:
    lines = [f"| {' | '.join(header)} |", f"|{'---|' * len(header)}"]
    return lines + [f"| {' | '.join(_cell(value) for value in row)} |" for row in rows]


def _cell(value: object) -> str:
    if value is None:
        return "–"
    if isinstance(value, list | tuple):
        return " to ".join(_cell(part) for part in value)
    if isinstance(value, float):
        return f"{value:.1f}"
    if isinstance(value, int):
        return f"{value:,}"
    # A name never ends a cell, starts markup or breaks the line.
    return " ".join(str(value).split()).replace("|", "\\|").replace("<", "&lt;")


def _without_folders(name: str) -> str:
    """The name of a file or a model without the folders it lies in, which are nobody's business."""
    if name.startswith(HUB_PREFIX):
        return name
    path = PurePath(name.replace("\\", "/"))
    return path.parent.name if path.name == MODEL_FOLDER and path.parent.name else path.name


def _counted(number: int, one: str, many: str | None = None) -> str:
    return f"{number:,} {one if number == 1 else many or one + 's'}"
