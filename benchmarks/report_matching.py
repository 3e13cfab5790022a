"""Tables and figures of matching beyond cosine, from the evidence that ``benchmarks/matching.py`` has kept.

    python benchmarks/report_matching.py PROJECT STORE PLAN --out docs/results/matching

PLAN is a JSON list of studies (``matching.Study``). The fused order and all probabilities are cross-fitted: those of a
query come from fits that never saw its individual, either side of it. Intervals are of 95 %, by bootstrap over
individuals, and differences are paired. Of equal scores the wrong one comes first. Written are ``top1.csv``,
``given.csv``, ``calibration.csv``, ``unknown.csv``, the same as Markdown in ``tables.md``, and ``reliability.png``.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from matching import Doubles, KnownPairs, Studied, Study, open_study, way_of
from resight.artefacts import write_csv, write_text
from resight.calibrating import FOLDS, UNKNOWN_DRAWS, calibrate, simulate, suggested_shares
from resight.calibration.evidence import LOCAL_FEATURES
from resight.calibration.fitting import cross_fit
from resight.calibration.open_figures import OpenFigures, open_figures
from resight.calibration.open_set import cross_fitted_new, simulate_unknown
from resight.calibration.reliability import (
    ALL,
    FIRST,
    UNCLEAR,
    Reliability,
    cosine_readings,
    log_loss,
    reliability_views,
)
from resight.calibration.shortlists import LocalArrays, Shortlists, pairs_of, stops_of
from resight.calibration.stored import passport_of
from resight.metrics import bootstrap_means, percentile_interval
from resight.project.folder import ProjectFolder

Row = dict[str, Any]


def first_right(scores: Doubles, same: NDArray[np.bool_], held: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """(n,) whether the best of each row is of the query's animal; of equal ones the wrong one counts as best."""
    scores = np.where(held, np.nan_to_num(scores, nan=-np.inf), -np.inf)
    right = np.where(same & held, scores, -np.inf).max(axis=1)
    found: NDArray[np.bool_] = right > np.where(~same & held, scores, -np.inf).max(axis=1)
    return found


def ways_of_ordering(studied: Studied, k: int) -> dict[str, NDArray[np.bool_]]:
    """Name → (n,) whether the first candidate is right, when the first ``k`` are put in that order."""
    lists = studied.shortlists
    first = slice(0, k)
    held, same = lists.held[:, first], lists.names[:, first] == lists.individual[:, None]
    local = {name: values[:, first] for name, values in studied.local.items()}
    evidence = {name: local[name] for name in LOCAL_FEATURES}
    found = {
        "embedding": first_right(lists.cosine[:, first].astype(np.float64), same, held),
        "local": first_right(local["local_sum"], same, held),
        "inliers": first_right(local["local_inliers"] + local["local_sum"] / 1e4, same, held),
        "confidences": first_right(local["confidences"], same, held),
        "matches": first_right(local["matches"] + local["confidences"] / 1e4, same, held),
    }
    pairs = pairs_of(lists, evidence, shortlist=k)
    held_out = cross_fit(pairs, folds=FOLDS).held_out(pairs.candidates, pairs.identity, pairs.groups, pairs.group_of)
    if np.isfinite(held_out.logit).all():
        fused = np.full(held.shape, np.nan)
        fused[held] = held_out.logit
        found["fused"] = first_right(fused, same, held)
    found["in the shortlist"] = (same & held).any(axis=1)
    return found


def top1_rows(studies: Sequence[Studied]) -> list[Row]:
    """Top-1 of each way by K over all queries of some studies, and how far above the embedding alone."""
    study = studies[0].study
    animals = np.concatenate([one.animals[one.chosen] for one in studies])
    codes = np.unique(animals, return_inverse=True)[1].astype(np.int64)
    name = study.pooled if len(studies) > 1 else study.name
    rows = []
    for k in study.ks:
        parts = [ways_of_ordering(one, k) for one in studies]
        computed = float(np.mean([np.isfinite(one.local["local_sum"][:, :k][one.shortlists.held[:, :k]]).mean()
                                  for one in studies]))  # fmt: skip
        base = np.concatenate([part["embedding"][one.chosen] for part, one in zip(parts, studies, strict=True)])
        for way in parts[0]:
            if not all(way in part for part in parts):
                continue
            hits = np.concatenate([part[way][one.chosen] for part, one in zip(parts, studies, strict=True)])
            figures = 100.0 * np.stack([hits, hits.astype(float) - base], axis=1)
            draws = bootstrap_means(figures, codes)
            low, high = percentile_interval(draws[:, 0])
            worse, better = percentile_interval(draws[:, 1])
            rows.append(
                {
                    "study": name, "species": study.species, "model": ", ".join(one.study.model for one in studies),
                    "points": study.points, "enlarged": study.enlarged,
                    "inside": "estimate" if study.foreground else "outline" if study.outline else "box",
                    "queries": len(hits), "individuals": len(np.unique(codes)), "k": k, "way": way,
                    "top1": figures[:, 0].mean(), "top1_low": low, "top1_high": high,
                    "difference": figures[:, 1].mean(), "difference_low": worse, "difference_high": better,
                    "share_of_pairs_computed": computed,
                }
            )  # fmt: skip
    return rows


PACKAGE = "as the package has it"


def less_own_mean(lists: Shortlists, values: Doubles) -> Doubles:
    """Each pair's value less the mean of all pairs that its candidate is in, and 100 so that it stays above 0."""
    held = lists.held & np.isfinite(values)
    query, place = np.nonzero(held)
    found = np.full((len(lists.ids), len(lists.ids)), np.nan)
    found[query, lists.neighbours[query, place]] = values[query, place]
    found = np.fmax(found, found.T)
    mean = np.nansum(found, axis=0) / np.maximum(np.isfinite(found).sum(axis=0), 1)
    less: Doubles = values - mean[lists.neighbours] + 100
    return less


def feeds(studied: Studied) -> dict[str, dict[str, Doubles] | None]:
    """Ways of giving local evidence to the fusion: name → its columns."""
    local, lists = studied.local, studied.shortlists
    package = {name: local[name] for name in LOCAL_FEATURES}
    plain = dict(zip(LOCAL_FEATURES, (local[name] for name in ("confidences", "matches", "inliers")), strict=True))
    return {
        "nothing: cosine alone": None,
        PACKAGE: package,
        "the logarithms of that": {name: np.log1p(values) for name, values in package.items()},
        "sum of confidences, matches, inliers": plain,
        "the logarithms of those": {name: np.log1p(values) for name, values in plain.items()},
        "as the package, less the candidate's own mean": {
            name: less_own_mean(lists, values) for name, values in package.items()
        },
    }


def feed_rows(studies: Sequence[Studied], k: int) -> list[Row]:
    """Top-1 and log loss of the cross-fitted fusion, by what it is given."""
    study = studies[0].study
    found: dict[str, list[tuple[NDArray[np.bool_], Doubles, NDArray[np.bool_]]]] = {}
    for one in studies:
        lists = one.shortlists
        held, same = lists.held[:, :k], lists.names[:, :k] == lists.individual[:, None]
        for name, local in feeds(one).items():
            columns = None if local is None else {key: values[:, :k] for key, values in local.items()}
            pairs = pairs_of(lists, columns, shortlist=k)
            held_out = cross_fit(pairs, folds=FOLDS).held_out(
                pairs.candidates, pairs.identity, pairs.groups, pairs.group_of
            )
            fused = np.full(held.shape, np.nan)
            fused[held] = held_out.logit
            found.setdefault(name, []).append((first_right(fused, same, held)[one.chosen], held_out.p, pairs.same))
    animals = np.concatenate([one.animals[one.chosen] for one in studies])
    codes = np.unique(animals, return_inverse=True)[1].astype(np.int64)
    base = np.concatenate([part[0] for part in found[PACKAGE]])
    rows = []
    for name, parts in found.items():
        hits = np.concatenate([part[0] for part in parts])
        figures = 100.0 * np.stack([hits, hits.astype(float) - base], axis=1)
        worse, better = percentile_interval(bootstrap_means(figures, codes)[:, 1])
        rows.append(
            {
                "study": study.pooled if len(studies) > 1 else study.name, "species": study.species, "k": k,
                "given": name, "queries": len(hits), "top1": figures[:, 0].mean(), "difference": figures[:, 1].mean(),
                "difference_low": worse, "difference_high": better,
                "log_loss": float(np.mean([log_loss(p, same) for _, p, same in parts])),
            }
        )  # fmt: skip
    return rows


def reliability_rows(studied: Studied) -> tuple[list[Row], Mapping[str, Reliability], Mapping[str, OpenFigures]]:
    """Calibration error of each view, of the fusion with local evidence, of the cosine alone, and of bare cosines."""
    study = studied.study
    evidence = {name: studied.local[name] for name in LOCAL_FEATURES}
    shares = suggested_shares(studied.side.annotations.values())
    rows = []
    kept: dict[str, Reliability] = {}
    figures: dict[str, OpenFigures] = {}
    assert study.shortlist is not None
    for fused, local in (("fused", evidence), ("cosine, calibrated", None)):
        passport = passport_of({}, shortlist=study.shortlist, local_key=None, model=study.model, split=study.split,
                               catalogue_revision=0)  # fmt: skip
        judged = calibrate(studied.shortlists, local, passport, shares, shortlist=study.shortlist)
        figures[fused] = judged.calibration.open_figures[study.species]
        figures["best cosine"] = judged.peer_figures[study.species]
        for view, one in judged.calibration.reliability[study.species].items():
            reading, _, what = view.rpartition(": ")
            if what not in (ALL, FIRST, UNCLEAR) or (reading and local is None):
                continue
            kept[f"{reading or fused}: {what}"] = one
            rows.append(reliability_row(study, study.name, reading or fused, what, one))
    return rows, kept, figures


def places(scores: Doubles, query: NDArray[np.int64]) -> NDArray[np.int64]:
    """(n,) each pair's place among its query's candidates, from 1."""
    order = np.lexsort((-scores, query))
    found = np.empty(len(scores), np.int64)
    found[order] = np.arange(len(scores)) - np.searchsorted(query[order], query[order]) + 1
    return found


def pooled_reliability(studies: Sequence[Studied], k: int) -> tuple[list[Row], dict[str, Reliability]]:
    """Calibration error over all pairs of these studies' shortlists of ``k``, each study's fits its own."""
    study = replace(studies[0].study, shortlist=k)
    found: dict[str, list[tuple[Doubles, NDArray[np.bool_], NDArray[np.int64]]]] = {}
    for one in studies:
        for name, local in (
            ("fused", {name: one.local[name] for name in LOCAL_FEATURES}),
            ("cosine, calibrated", None),
        ):
            pairs = pairs_of(one.shortlists, local, shortlist=k, decisive=decisive_in(one.shortlists, local, k))
            held_out = cross_fit(pairs, folds=FOLDS).held_out(
                pairs.candidates, pairs.identity, pairs.groups, pairs.group_of
            )
            query = pairs.candidates.query
            found.setdefault(name, []).append((held_out.p, pairs.same, places(held_out.logit, query)))
        cosine = pairs.candidates.features.column("cosine")
        for name, values in cosine_readings(cosine).items():
            found.setdefault(name, []).append((values, pairs.same, places(cosine, query)))
    rows, kept = [], {}
    for name, parts in found.items():
        p, same, place = (np.concatenate(column) for column in zip(*parts, strict=True))
        for view, figures in reliability_views(p, same, place).items():
            kept[f"{name}: {view}"] = figures
            rows.append(reliability_row(study, f"{study.pooled}, K {k}", name, view, figures))
    return rows, kept


def decisive_in(lists: Shortlists, local: LocalArrays | None, k: int) -> Doubles:
    """(n,) the sum from which on a candidate ends the search, as ``calibrate`` finds it; infinity where none does."""
    stops = {} if local is None else stops_of(lists, local, shortlist=k)
    return lists.each({name: one.decisive for name, one in stops.items()}, np.inf)


def reliability_row(study: Study, name: str, probability: str, view: str, one: Reliability) -> Row:
    """One row of ``calibration.csv``."""
    return {
        "study": name, "species": study.species, "shortlist": study.shortlist, "probability": probability, "of": view,
        "pairs": one.pairs, "same": one.same, "ece": one.ece, "ece_by_chance": one.ece_by_chance, "brier": one.brier,
        "log_loss": one.log_loss,
    }  # fmt: skip


def open_rows(studied: Studied, figures: Mapping[str, OpenFigures]) -> list[Row]:
    """How well new animals are told from known ones, half of the individuals made unknown, against bare scores."""
    study = studied.study
    assert study.shortlist is not None
    lists, k = studied.shortlists, study.shortlist
    evidence = {name: studied.local[name] for name in LOCAL_FEATURES}
    scores: dict[str, Doubles] = {}
    for name, local in (("fused", evidence), ("cosine, calibrated", None)):
        decisive = decisive_in(lists, local, k)
        cross = cross_fit(pairs_of(lists, local, shortlist=k, decisive=decisive), folds=FOLDS)
        simulated = simulate(lists, local, cross, shortlist=k, decisive=decisive)
        new = cross_fitted_new(simulated.queries, folds=FOLDS)
        if not np.isfinite(new.p).all() or len(new.p) != UNKNOWN_DRAWS * len(lists.ids):
            return []
        scores[name] = new.p
        scores["best cosine"] = -simulated.best_cosine
        part, queries = simulated.queries.draw * FOLDS + new.part, simulated.queries
    best, right = best_local(lists, studied.local["local_sum"], k)
    is_new = queries.is_new
    scores["best local"] = -best
    own = open_figures(-best, is_new, right & ~is_new, queries.identity, part, threshold=0.0)
    figures = {**figures, "best local": own}
    drawn = {name: aurocs(values, is_new, queries.identity, part) for name, values in scores.items()}
    rows = []
    for name, values in drawn.items():
        low, high = percentile_interval(values[1:])
        worse, better = percentile_interval(values[1:] - drawn["best cosine"][1:])
        has_threshold = name in ("fused", "cosine, calibrated")
        one = figures[name]
        rows.append(
            {
                "study": study.name, "species": study.species, "shortlist": k, "score": name,
                "queries": len(lists.ids), "draws": UNKNOWN_DRAWS, "auroc": values[0], "auroc_low": low,
                "auroc_high": high, "above_best_cosine": values[0] - drawn["best cosine"][0],
                "above_low": worse, "above_high": better, "oscr": one.oscr,
                "baks": one.baks if has_threshold else None, "baus": one.baus if has_threshold else None,
            }
        )  # fmt: skip
        if one.auroc is not None and abs(one.auroc - values[0]) > 1e-6:
            raise AssertionError(f"{name}: {one.auroc} and {values[0]}")
    return rows


def best_local(lists: Shortlists, local_sum: Doubles, k: int) -> tuple[Doubles, NDArray[np.bool_]]:
    """(draws × n,) the best local evidence of what is kept in each draw, and whether it is the query's animal."""
    best, right = [], []
    for out in simulate_unknown(lists.individual, draws=UNKNOWN_DRAWS, seed=0):
        keep = lists.held & ~out[lists.neighbours]
        keep &= np.cumsum(keep, axis=1) <= k
        sums = np.where(keep, np.nan_to_num(local_sum, nan=0.0), -1.0)
        same = (lists.names == lists.individual[:, None]) & keep
        best.append(sums.max(axis=1))
        right.append(first_right(sums, same, keep))
    return np.concatenate(best), np.concatenate(right)


def aurocs(score: Doubles, is_new: NDArray[np.bool_], identity: NDArray[np.int64], part: NDArray[np.int64],
           draws: int = 500) -> Doubles:  # fmt: skip
    """(1 + draws,) mean AUROC over the parts, of all identities first, then of identities drawn with replacement.

    The same draws for any score: differences are paired.
    """
    codes = np.unique(identity, return_inverse=True)[1].reshape(len(identity))
    counts = np.random.default_rng(0).multinomial(codes.max() + 1, np.full(codes.max() + 1, 1 / (codes.max() + 1)),
                                                  size=draws)  # fmt: skip
    weights = np.concatenate([np.ones((1, codes.max() + 1)), counts])
    parts = []
    for code in np.unique(part):
        new, known = (np.flatnonzero((part == code) & side) for side in (is_new, ~is_new))
        if len(new) and len(known):
            above = np.sign(score[new][:, None] - score[known][None]) / 2 + 0.5
            w_new, w_known = weights[:, codes[new]], weights[:, codes[known]]
            total = w_new.sum(axis=1) * w_known.sum(axis=1)
            won = np.einsum("dn,nk,dk->d", w_new, above, w_known, optimize=True)
            parts.append(np.divide(won, total, out=np.full(len(won), np.nan), where=total > 0))
    found: Doubles = np.nanmean(np.stack(parts), axis=0)
    return found


def draw_reliability(path: Path, drawn: Sequence[tuple[str, Sequence[tuple[str, Reliability]]]]) -> None:
    """One panel a view: mean probability against the share that is right, bin by bin, with Wilson intervals."""
    from matplotlib.figure import Figure

    from resight.experiments.drawing import COLOURS, MARKERS, style

    with style():
        picture = Figure(figsize=(3.3 * len(drawn), 3.4), layout="constrained")
        panels = picture.subplots(1, len(drawn), sharey=True, squeeze=False)[0]
        for panel, (title, curves) in zip(panels, drawn, strict=True):
            panel.plot([0, 1], [0, 1], color="#b8b8b8", linewidth=0.8)
            for number, (name, one) in enumerate(curves):
                mean, share = ([getattr(bin_, field) for bin_ in one.bins] for field in ("mean", "share"))
                off = np.array([[bin_.share - bin_.low, bin_.high - bin_.share] for bin_ in one.bins]).T
                ece = f"{name}, error {100 * (one.ece or 0):.1f} %"
                panel.errorbar(mean, share, yerr=np.clip(off, 0, None), color=COLOURS[number], marker=MARKERS[number],
                               markersize=3.5, linewidth=0.9, elinewidth=0.6, label=ece)  # fmt: skip
            panel.set(title=title, xlabel="P(same) that was told", xlim=(-0.02, 1.02), ylim=(-0.02, 1.02))
            panel.legend(fontsize=6.5, frameon=False, loc="upper left")
        panels[0].set_ylabel("share that shows one animal")
        path.parent.mkdir(parents=True, exist_ok=True)
        picture.savefig(path, dpi=120, metadata={"Software": None})


def write_rows(path: Path, rows: Sequence[Row]) -> None:
    """A table as CSV, numbers to four significant digits behind the point."""

    def shown(value: object) -> object:
        return "" if value is None else f"{value:.4f}" if isinstance(value, float) else value

    if rows:
        path.parent.mkdir(parents=True, exist_ok=True)
        write_csv(path, tuple(rows[0]), ([shown(value) for value in row.values()] for row in rows))


def percent(row: Row, name: str, factor: float = 1.0) -> str:
    """One figure in percent, a dash where there is none."""
    return "–" if row[name] is None else f"{factor * row[name]:.1f}"


def between(row: Row, name: str, low: str, high: str, factor: float = 1.0) -> str:
    """A difference with its interval, in points."""
    return f"{factor * row[name]:+.1f} ({factor * row[low]:+.1f} to {factor * row[high]:+.1f})"


def write_tables(path: Path, top1: Sequence[Row], given: Sequence[Row], calibrated: Sequence[Row],
                 unknown: Sequence[Row]) -> None:  # fmt: skip
    """All tables as Markdown."""
    lines = ["| study | queries | K | in the shortlist | embedding | local | inliers | fused | local less "
             "embedding | fused less embedding |", "|---|---|---|---|---|---|---|---|---|---|"]  # fmt: skip
    for key in dict.fromkeys((row["study"], row["k"]) for row in top1):
        ways = {row["way"]: row for row in top1 if (row["study"], row["k"]) == key}
        figures = [percent(ways[name], "top1") if name in ways else "–"
                   for name in ("in the shortlist", "embedding", "local", "inliers", "fused")]  # fmt: skip
        gains = [between(ways[name], "difference", "difference_low", "difference_high") if name in ways else "–"
                 for name in ("local", "fused")]  # fmt: skip
        lines.append(f"| {' | '.join([key[0], str(ways['embedding']['queries']), str(key[1]), *figures, *gains])} |")
    lines += ["", "| study | K | the fusion is given | top-1 | less what the package has | log loss |",
              "|---|---|---|---|---|---|"]  # fmt: skip
    for row in given:
        gain = between(row, "difference", "difference_low", "difference_high")
        lines.append(f"| {row['study']} | {row['k']} | {row['given']} | {percent(row, 'top1')} | {gain} | "
                     f"{row['log_loss']:.3f} |")  # fmt: skip
    lines += ["", f"| study | probability | {ALL} | {FIRST} | {UNCLEAR} |", "|---|---|---|---|---|"]
    for name, probability in dict.fromkeys((row["study"], row["probability"]) for row in calibrated):
        views = {row["of"]: row for row in calibrated if (row["study"], row["probability"]) == (name, probability)}
        cells = [f"{percent(views[view], 'ece', 100)} ({percent(views[view], 'ece_by_chance', 100)}; "
                 f"{views[view]['pairs']})" for view in (ALL, FIRST, UNCLEAR)]  # fmt: skip
        lines.append(f"| {name} | {probability} | {' | '.join(cells)} |")
    lines += [
        "",
        "| study | score | AUROC | above the best cosine | OSCR | BAKS | BAUS |",
        "|---|---|---|---|---|---|---|",
    ]
    for row in unknown:
        whole = f"{row['auroc']:.3f} ({row['auroc_low']:.3f} to {row['auroc_high']:.3f})"
        above = f"{row['above_best_cosine']:+.3f} ({row['above_low']:+.3f} to {row['above_high']:+.3f})"
        rest = ["–" if row[name] is None else f"{row[name]:.3f}" for name in ("oscr", "baks", "baus")]
        lines.append(f"| {' | '.join([row['study'], row['score'], whole, above, *rest])} |")
    write_text(path, "\n".join(lines) + "\n")


def show(rows: list[Row]) -> list[Row]:
    """Print rows on their way."""
    for row in rows:
        values = (f"{value:.3f}" if isinstance(value, float) else str(value) for value in row.values())
        print("  " + "  ".join(values), flush=True)
    return rows


def read_arguments(described: str | None) -> argparse.Namespace:
    """The command line of a report: project, store, plan, and where to write."""
    parser = argparse.ArgumentParser(description=described, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("project", type=Path)
    parser.add_argument("store", type=Path)
    parser.add_argument("plan", type=Path)
    parser.add_argument("--out", type=Path, required=True)
    return parser.parse_args()


def read_plan(path: Path) -> list[Study]:
    """The studies of a plan."""
    return [Study(**{**one, "ks": tuple(one.get("ks", Study.ks))}) for one in json.loads(path.read_text())]


def known_pairs(store: Path, studies: Sequence[Study]) -> dict[str, KnownPairs]:
    """Name of the way → what is known of its pairs, for all that some studies rest on."""
    return {name: KnownPairs(store / "pairs" / name) for name in {way_of(one).folder_name for one in studies}}


def main() -> int:
    """Read, measure, write."""
    arguments = read_arguments(__doc__)
    project = ProjectFolder(arguments.project)
    studies = read_plan(arguments.plan)
    known = known_pairs(arguments.store, studies)
    top1: list[Row] = []
    calibrated: list[Row] = []
    unknown: list[Row] = []
    given: list[Row] = []
    curves: dict[str, Mapping[str, Reliability]] = {}
    groups: dict[str, list[Studied]] = {}
    for study in studies:
        studied = open_study(project, arguments.store, study, known)
        missing = np.isnan(studied.local["local_sum"]) & studied.shortlists.held
        print(f"{study.name}: {len(studied.chosen)} queries, {int(missing.sum())} of "
              f"{int(studied.shortlists.held.sum())} pairs were not computed", flush=True)  # fmt: skip
        top1 += show(top1_rows([studied]))
        if study.pooled:
            groups.setdefault(study.pooled, []).append(studied)
        if study.shortlist is not None:
            rows, curves[study.name], figures = reliability_rows(studied)
            calibrated += show(rows)
            unknown += show(open_rows(studied, figures))
        if study.queries is None and not study.pooled:
            given += show(feed_rows([studied], max(study.ks)))
    for members in groups.values():
        top1 += show(top1_rows(members))
        given += show(feed_rows(members, max(members[0].study.ks)))
        study = members[0].study
        for k in dict.fromkeys((study.shortlist, max(study.ks))) if study.shortlist is not None else ():
            rows, curves[f"{study.pooled}, K {k}"] = pooled_reliability(members, k)
            calibrated += show(rows)
    write_rows(arguments.out / "top1.csv", top1)
    write_rows(arguments.out / "calibration.csv", calibrated)
    write_rows(arguments.out / "unknown.csv", unknown)
    write_rows(arguments.out / "given.csv", given)
    write_tables(arguments.out / "tables.md", top1, given, calibrated, unknown)
    names = ("fused", "cosine, at least 0")
    pooled = {one.name for one in studies if one.pooled}
    panels = [
        (title, [(name, found[f"{name}: {FIRST}"]) for name in names])
        for title, found in curves.items()
        if title not in pooled
    ]
    if panels:
        draw_reliability(arguments.out / "reliability.png", panels)
    return 0


if __name__ == "__main__":
    sys.exit(main())
