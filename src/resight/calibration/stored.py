"""The calibration of one model as a file: JSON that people can read; it fits what it was made from, or is refused."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from resight.artefacts import Passport, write_text
from resight.calibration.evidence import Doubles, Group
from resight.calibration.fusion import Fit, Fusion, Isotonic, Settings, Support
from resight.calibration.open_figures import OpenFigures, OperatingPoint
from resight.calibration.open_set import NewFit, NewSettings, OpenSet, SuggestedShare
from resight.calibration.reliability import Bin, Reliability
from resight.calibration.stopping import Length, Stop
from resight.errors import ArtefactMismatch

CALIBRATION_VERSION = 1  # raise it whenever the same coefficients would give other probabilities

_DRAW_DIGITS = 5  # significant digits of the resamples, which only make intervals
_NUMBERS_ON_LINES = re.compile(r"\[\n\s+([-+\d.eE]+(?:,\n\s+[-+\d.eE]+)*)\n\s*\]")


@dataclass(frozen=True)
class Calibration:
    """What turns the evidence of one model into probabilities, and how true these were on held-out identities.

    Attributes:
        fusion: P(same).
        open_set: P(new).
        passport: What it was made from; see :func:`passport_of`.
        reliability: Species → view (``resight.calibration.reliability_views``) → figures; also of the peers, under
            names of their own.
        open_figures: Species → how well new animals were told.
        operating_points: Species → where to call a query new.
        shares: Species → the share of new animals that the catalogue suggested.
        lengths: Species → how long its shortlist is, where local evidence takes part.
        stops: Species → from which local evidence on a candidate is decisive; none where nothing was that telling.
        first_right: Species → share of queries whose first candidate is right, by the cosine and by all the evidence,
            of fits without the query's identity: whether local evidence helps a species shows here.
    """

    fusion: Fusion
    open_set: OpenSet
    passport: Passport
    reliability: Mapping[str, Mapping[str, Reliability]] = field(default_factory=dict)
    open_figures: Mapping[str, OpenFigures] = field(default_factory=dict)
    operating_points: Mapping[str, OperatingPoint] = field(default_factory=dict)
    shares: Mapping[str, SuggestedShare] = field(default_factory=dict)
    lengths: Mapping[str, Length] = field(default_factory=dict)
    stops: Mapping[str, Stop] = field(default_factory=dict)
    first_right: Mapping[str, tuple[float, float]] = field(default_factory=dict)

    def decisive(self, species: str) -> float | None:
        """The local evidence on a candidate of this species that ends the search; ``None``: none does."""
        return self.stops[species].decisive if species in self.stops else None

    def did_not_help(self, species: str) -> bool:
        """Whether all the evidence put the right candidate first no more often than the cosine alone."""
        by_cosine, by_all = self.first_right.get(species, (0.0, 1.0))
        return by_all <= by_cosine


def passport_of(
    embeddings: Mapping[str, Any],
    *,
    shortlist: int,
    local_key: str | None,
    model: str,
    split: str,
    catalogue_revision: int,
) -> Passport:
    """What a calibration is made from.

    Args:
        embeddings: The deciding fields of the vectors' passport, the weights' hash among them.
        shortlist: How many candidates a query's shortlist holds.
        local_key: Key of how local evidence is computed; ``None`` without.
        model: The model's name; this and the next two are only recorded.
        split: The split whose test side it rests on.
        catalogue_revision: The catalogue's when that was read.
    """
    decides = {
        **embeddings,
        "shortlist": shortlist,
        "local_evidence": local_key,
        "calibration_version": CALIBRATION_VERSION,
    }
    return Passport("calibration", decides, {"model": model, "split": split, "catalogue_revision": catalogue_revision})


def write_calibration(calibration: Calibration, path: Path) -> None:
    """Write a calibration, whole or not at all."""
    document = {
        "kind": calibration.passport.kind,
        "decides": dict(calibration.passport.decides),
        "recorded": dict(calibration.passport.recorded),
        "p_same": _fusion_as_json(calibration.fusion),
        "p_new": _open_set_as_json(calibration.open_set),
        "reliability": {
            species: {view: asdict(figures) for view, figures in views.items()}
            for species, views in calibration.reliability.items()
        },
        "open_figures": {name: asdict(one) for name, one in calibration.open_figures.items()},
        "operating_points": {name: asdict(one) for name, one in calibration.operating_points.items()},
        "shares": {name: asdict(one) for name, one in calibration.shares.items()},
        "lengths": {name: asdict(one) for name, one in calibration.lengths.items()},
        "stops": {name: asdict(one) for name, one in calibration.stops.items()},
        "first_right": {name: list(shares) for name, shares in calibration.first_right.items()},
    }
    text = json.dumps(document, indent=2, ensure_ascii=False, allow_nan=False)
    # A list of numbers on one line. A line break inside a text is escaped, so no text is touched.
    text = _NUMBERS_ON_LINES.sub(lambda found: "[" + ", ".join(re.split(r",\n\s+", found.group(1))) + "]", text)
    write_text(path, text + "\n")


def load_calibration(path: Path, expected: Passport) -> Calibration:
    """Read a calibration that fits.

    Args:
        path: The file.
        expected: What it would be made from now.

    Raises:
        ArtefactMismatch: no calibration, or one that was made from something else: every field that differs is named,
            and the command that makes it anew.
    """
    try:
        document = json.loads(path.read_text(encoding="utf-8"))
        passport = Passport(str(document["kind"]), dict(document["decides"]), dict(document["recorded"]))
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise _unreadable(path, error) from None
    # Before the rest is read: another version may have written it otherwise.
    passport.require_fit(expected, where=path, remedy=f"make it anew with `{_command(passport)}`")
    try:
        return Calibration(
            _fusion_from_json(document["p_same"]),
            _open_set_from_json(document["p_new"]),
            passport,
            {
                species: {view: _reliability_from_json(figures) for view, figures in views.items()}
                for species, views in document["reliability"].items()
            },
            {name: OpenFigures(**one) for name, one in document["open_figures"].items()},
            {name: OperatingPoint(**one) for name, one in document["operating_points"].items()},
            {name: SuggestedShare(**one) for name, one in document["shares"].items()},
            {name: Length(**one) for name, one in document.get("lengths", {}).items()},
            {name: Stop(**one) for name, one in document.get("stops", {}).items()},
            {name: (float(shares[0]), float(shares[1])) for name, shares in document.get("first_right", {}).items()},
        )
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise _unreadable(path, error) from None


def _command(passport: Passport) -> str:
    """What makes such a calibration; several models are recorded with a plus between their names."""
    recorded = passport.recorded
    models = "".join(f" --model {name}" for name in str(recorded.get("model", "MODEL")).split("+"))
    local = "" if passport.decides.get("local_evidence") is None else " --rerank local"
    return f"resight calibrate --split {recorded.get('split', 'SPLIT')}{models}{local}"


def _unreadable(path: Path, error: Exception) -> ArtefactMismatch:
    reason = error.strerror if isinstance(error, OSError) else f"{type(error).__name__}: {error}"
    return ArtefactMismatch(
        f"{path} cannot be read as a calibration ({reason}); make it with `resight calibrate --split SPLIT`"
    )


def _fusion_as_json(fusion: Fusion) -> dict[str, Any]:
    return {
        "settings": asdict(fusion.settings),
        "columns": list(fusion.columns),
        "centre": fusion.centre.tolist(),
        "scale": fusion.scale.tolist(),
        "name_centre": fusion.name_centre.tolist(),
        "name_scale": fusion.name_scale.tolist(),
        "support": {name: asdict(one) for name, one in fusion.support.items()},
        "pooled": None if fusion.pooled is None else _fit_as_json(fusion.pooled),
        "species": {name: _fit_as_json(fit) for name, fit in fusion.species.items()},
        "viewpoints": [{**asdict(group), "fit": _fit_as_json(fit)} for group, fit in fusion.viewpoints.items()],
    }


def _fusion_from_json(value: Mapping[str, Any]) -> Fusion:
    return Fusion(
        Settings(**value["settings"]),
        tuple(value["columns"]),
        _array(value["centre"]),
        _array(value["scale"]),
        _array(value["name_centre"]),
        _array(value["name_scale"]),
        None if value["pooled"] is None else _fit_from_json(value["pooled"]),
        {name: _fit_from_json(fit) for name, fit in value["species"].items()},
        {Group(one["species"], one["viewpoint"]): _fit_from_json(one["fit"]) for one in value["viewpoints"]},
        {name: Support(**one) for name, one in value["support"].items()},
    )


def _fit_as_json(fit: Fit) -> dict[str, Any]:
    stage = fit.isotonic
    return {
        "support": asdict(fit.support),
        "pair": fit.pair.tolist(),
        "name": fit.name.tolist(),
        "isotonic": None
        if stage is None
        else {"logits": stage.logits.tolist(), "probabilities": stage.probabilities.tolist()},
        "name_draws": _rounded(fit.name_draws),
    }


def _fit_from_json(value: Mapping[str, Any]) -> Fit:
    stage = value["isotonic"]
    name = _array(value["name"])
    return Fit(
        Support(**value["support"]),
        _array(value["pair"]),
        name,
        _array(value["name_draws"]).reshape(-1, len(name)),
        None if stage is None else Isotonic(_array(stage["logits"]), _array(stage["probabilities"])),
    )


def _open_set_as_json(open_set: OpenSet) -> dict[str, Any]:
    return {
        "settings": asdict(open_set.settings),
        "centre": open_set.centre.tolist(),
        "scale": open_set.scale.tolist(),
        "counts": {name: list(counts) for name, counts in open_set.counts.items()},
        "species": {
            name: {
                "known": fit.known,
                "new": fit.new,
                "individuals": fit.individuals,
                "coefficients": fit.coefficients.tolist(),
                "draws": _rounded(fit.draws),
            }
            for name, fit in open_set.species.items()
        },
    }


def _open_set_from_json(value: Mapping[str, Any]) -> OpenSet:
    fits = {}
    for name, fit in value["species"].items():
        coefficients = _array(fit["coefficients"])
        draws = _array(fit["draws"]).reshape(-1, len(coefficients))
        fits[name] = NewFit(int(fit["known"]), int(fit["new"]), int(fit["individuals"]), coefficients, draws)
    return OpenSet(
        NewSettings(**value["settings"]),
        _array(value["centre"]),
        _array(value["scale"]),
        fits,
        {name: (int(counts[0]), int(counts[1])) for name, counts in value["counts"].items()},
    )


def _reliability_from_json(value: Mapping[str, Any]) -> Reliability:
    return Reliability(**{**value, "bins": tuple(Bin(**one) for one in value["bins"])})


def _array(values: Any) -> Doubles:
    return np.asarray(values, dtype=np.float64)


def _rounded(values: Doubles) -> list[list[float]]:
    return [[float(f"{value:.{_DRAW_DIGITS}g}") for value in row] for row in values]
