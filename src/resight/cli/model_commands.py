"""Commands that use a model: embed, evaluate, match, models, demo."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from resight.cli.catalogue_commands import Json, open_project
from resight.cli.output import SHOWN_PROBLEMS, emit, say, table
from resight.errors import InputError
from resight.matching.words import new_or_known, percent

if TYPE_CHECKING:
    from resight.comparison import Comparison, SpeciesComparison
    from resight.evaluation import Evaluation
    from resight.matching.candidates import Candidate, Match, NamedCandidate
    from resight.types import Box

logger = logging.getLogger(__name__)

Model = Annotated[
    str | None,
    typer.Option(
        "--model",
        metavar="M",
        help="A run, a folder, hub:OWNER/NAME or a packaged name; else the project's default, the newest run, or the "
        "packaged ImageNet model.",
    ),
]
Models = Annotated[
    list[str] | None,
    typer.Option(
        "--model",
        metavar="M",
        help="A run, a folder, hub:OWNER/NAME or a packaged name; else the project's default, the newest run, or the "
        "packaged ImageNet model. Given more than once, these models answer as one; calibrate with all of them finds "
        "how much each counts.",
    ),
]
SpeciesList = Annotated[
    str | None, typer.Option("--species", metavar="A,B", help="Only these species, with commas between.")
]
Rerank = Annotated[
    str,
    typer.Option(
        "--rerank",
        metavar="none|local",
        help="local puts the nearest in the order of matching keypoints and "
        "cosine together; this wants the extra 'local'.",
    ),
]


def add_to(app: typer.Typer) -> None:
    """Add these commands to the program."""
    app.command("embed")(embed)
    app.command("evaluate")(evaluate)
    app.command("match")(match)
    app.command("models")(models)
    app.command("demo")(demo)


def embed(
    context: typer.Context,
    model: Model = None,
    split: Annotated[
        str | None, typer.Option("--split", metavar="NAME", help="Only annotations of this split.")
    ] = None,
    runtime: Annotated[
        str | None,
        typer.Option(
            "--runtime",
            metavar="torch|onnx|openvino",
            help="What runs the network; onnx and openvino export it first where that was not done. Without it: the "
            "model's OpenVINO export where there is one and no GPU, else torch.",
        ),
    ] = None,
    anew: Annotated[bool, typer.Option("--anew", help="Replace vectors that another model of this name made.")] = False,
    json: Json = False,
) -> None:
    """Make the vectors that annotations lack."""
    report = open_project(context).embed(model=model, split=split, runtime=runtime, anew=anew)

    def show() -> None:
        speed = "" if report.images_per_second is None else f" at {report.images_per_second:.1f} images/s"
        by = f" by {report.runtime}" if report.embedded else ""
        say(f"model {report.model}: {report.embedded:,} vectors made{by}{speed}, {report.reused:,} were there")
        if report.failures:
            say(f"{len(report.failures):,} annotations have none, since their photos cannot be used:")
            for message in list(report.failures.values())[:SHOWN_PROBLEMS]:
                say(f"  {message}")

    emit(report, as_json=json, show=show)


def evaluate(
    context: typer.Context,
    split: Annotated[str, typer.Option("--split", metavar="NAME", help="The split whose test side is scored.")],
    model: Models = None,
    rerank: Rerank = "none",
    species: SpeciesList = None,
    per_query: Annotated[
        Path | None, typer.Option("--per-query", metavar="FILE", help="Write every query's candidates as CSV.")
    ] = None,
    against: Annotated[
        str | None,
        typer.Option(
            "--against",
            metavar="OLD",
            help="Compare with this model, query by query, and say which species got worse; a release script reads "
            "'against.worse' of the JSON. The exit code stays 0.",
        ),
    ] = None,
    json: Json = False,
) -> None:
    """Score a model one-vs-all per species (paper §3.4)."""
    result = open_project(context).evaluate(
        split=split, model=model, species=names(species), per_query=per_query, against=against, rerank=rerank
    )

    def show() -> None:
        if result.against is None:
            _show_evaluation(result)
        else:
            _show_comparison(result, result.against)
        for warning in result.warnings:
            say(f"warning: {warning}")

    emit(result.as_json(), as_json=json, show=show)


def _show_evaluation(result: Evaluation) -> None:
    columns = ("species", "queries", "ids", "excluded", "top-1", "95 %", "top-5", "top-10", "top-20", "mAP", "seen",
               "unseen", "top-1 with excluded as misses")  # fmt: skip
    rows: list[tuple[object, ...]] = []
    for one in result.species:
        f = one.figures
        interval = None if f.top1_ci95 is None else f"{f.top1_ci95[0]:.1f}–{f.top1_ci95[1]:.1f}"
        rows.append((one.species, f.queries, f.individuals, f.excluded, f.top1, interval, f.top5, f.top10, f.top20,
                     f.map, f.top1_seen, f.top1_unseen, f.top1_excluded_as_misses))  # fmt: skip
    m = result.macro
    rows.append(("mean of species", None, None, None, m.top1, None, m.top5, m.top10, m.top20, m.map, m.top1_seen,
                 m.top1_unseen, m.top1_excluded_as_misses))  # fmt: skip
    spare = ("top-1 with excluded as misses", "top-10", "ids", "excluded", "top-20", "mAP", "95 %", "seen", "unseen")
    table(columns, rows, title=f"model {result.model} on split {result.split}, percent", spare=spare)


def _show_comparison(result: Evaluation, against: Comparison) -> None:
    columns = ("species", "queries", "ids", "ids changed", "top-1 old", "top-1 new", "difference", "95 %", "p (Holm)",
               "only old right", "only new right", "mAP difference", "verdict")  # fmt: skip
    rows: list[tuple[object, ...]] = []
    for one in against.worst_first():
        p_holm = None if one.p_holm is None else f"{one.p_holm:.3f}"
        rows.append((one.species, one.queries, one.individuals, one.individuals_changed, one.top1_old, one.top1_new,
                     one.difference, _interval(one.difference_ci95), p_holm, one.only_old, one.only_new,
                     one.map_difference, one.verdict))  # fmt: skip
    m = against.macro
    rows.append(("mean of species", None, None, None, m.top1_old, m.top1_new, m.difference,
                 _interval(m.difference_ci95), None, None, None, m.map_difference, None))  # fmt: skip
    spare = ("mAP difference", "ids changed", "ids", "p (Holm)", "only new right", "only old right")
    title = f"model {result.model} against {against.model} on split {result.split}, percent, worst first"
    table(columns, rows, title=title, spare=spare)
    if against.not_compared:
        say("not compared, since no query is left: " + ", ".join(one.species for one in against.not_compared))
    if against.worse:
        say("worse: " + ", ".join(_fall(one) for one in against.worse))
        sure = [one.species for one in against.worse_beyond_chance]
        say(f"of these, beyond chance among {against.macro.species} species (Holm): {', '.join(sure) or 'none'}")
    else:
        say("no species is clearly worse")


def _interval(ends: tuple[float, float] | None) -> str | None:
    return None if ends is None else f"{ends[0]:.1f} to {ends[1]:.1f}"


def _fall(one: SpeciesComparison) -> str:
    return f"{one.species} ({one.difference:.1f}, {_interval(one.difference_ci95)})"


def match(
    context: typer.Context,
    images: Annotated[list[Path], typer.Argument(metavar="IMAGE...", help="Photos of animals to identify.")],
    species: Annotated[
        str | None, typer.Option("--species", metavar="S", help="Needed where the catalogue holds several.")
    ] = None,
    viewpoint: Annotated[
        str | None, typer.Option("--viewpoint", metavar="V", help="left, right, front, back, up or down.")
    ] = None,
    box: Annotated[
        str | None, typer.Option("--box", metavar="X,Y,W,H", help="The animal in upright pixels; else the whole photo.")
    ] = None,
    model: Models = None,
    k: Annotated[int, typer.Option("-k", metavar="N", min=1, help="How many annotations to return.")] = 20,
    same_animal: Annotated[
        bool, typer.Option("--same-animal", help="All photos show one animal: they are one query.")
    ] = False,
    by_encounter: Annotated[
        bool,
        typer.Option(
            "--by-encounter", help="Photos that the catalogue has in one encounter and under one name are one query."
        ),
    ] = False,
    rerank: Rerank = "none",
    include: Annotated[
        list[str] | None,
        typer.Option(
            "--include",
            metavar="REASON",
            help="Compare what is left out for this reason: same-encounter, other-side, no-viewpoint, viewpoint-policy "
            "or quality-rule; may be repeated.",
        ),
    ] = None,
    new_share: Annotated[
        float | None,
        typer.Option(
            "--new-share", metavar="P", help="The share of new animals to expect; else what the catalogue suggests."
        ),
    ] = None,
    html: Annotated[
        Path | None, typer.Option("--html", metavar="FILE", help="Write a page with query and candidates.")
    ] = None,
    json: Json = False,
) -> None:
    """Find candidates for new photos."""
    answers = open_project(context).match(
        images,
        species=species,
        viewpoint=viewpoint,
        box=None if box is None else parse_box(box),
        model=model,
        k=k,
        same_animal=same_animal,
        by_encounter=by_encounter,
        rerank=rerank,
        include=include or (),
        share_of_new=new_share,
        html=html,
    )

    def show() -> None:
        for answer in answers:
            _show_match(answer)
        if html is not None:
            say(f"wrote {html}")

    emit({"queries": answers, "sheet": None if html is None else str(html)}, as_json=json, show=show)


def _show_match(answer: Match) -> None:
    seen = f", {answer.viewpoint}" if answer.viewpoint else ""
    say(f"{answer.image} ({answer.species}{seen}), model {answer.model}")
    say(answer.told())
    if answer.note:
        say(answer.note)
    if answer.p_new is not None:
        said = new_or_known(answer.p_new, answer.p_new_ci95, [c.p_same for c in answer.candidates])
        say(f"{said[0].upper()}{said[1:]}.")
    if answer.p_new_note:
        say(answer.p_new_note)
    with_points = any(c.evidence is not None for c in answer.candidates)
    columns = ("rank", "individual", "P(same)", "score", *(("points", "agreeing") if with_points else ()), "viewpoint",
               "encounter", "file")  # fmt: skip
    rows: list[tuple[object, ...]] = []
    for c in answer.candidates:
        points = (None, None) if c.evidence is None else (c.evidence.count, c.evidence.inliers)
        p_same = None if c.p_same is None else percent(c.p_same, c.p_same_ci95)
        rows.append((c.rank, c.individual_id or "not identified", p_same, f"{c.score:.3f}",
                     *(points if with_points else ()), _proposed(c), c.encounter, c.file_name))  # fmt: skip
    table(columns, rows, spare=("encounter", "viewpoint", "agreeing"))
    if answer.individuals:
        say("names, each by its best: " + ", ".join(_named(one) for one in answer.individuals))


def _named(one: NamedCandidate) -> str:
    told = f"{one.score:.3f}" if one.p_same is None else percent(one.p_same)
    return f"{one.individual_id} ({told})"


def _proposed(candidate: Candidate) -> str | None:
    """The viewpoint, with what of it is only proposed."""
    if not candidate.proposed:
        return candidate.viewpoint
    return f"{candidate.viewpoint or '–'} ({', '.join(candidate.proposed)} only proposed)"


def models(context: typer.Context, json: Json = False) -> None:
    """List the models at hand."""
    found = open_project(context).models()
    columns = ("name", "backbone", "dim", "image size", "licence", "available")
    rows = [
        (m.name, m.backbone, m.dim, m.image_size, m.licence or "not stated", "yes" if m.available else "no")
        for m in found
    ]
    emit({"models": found}, as_json=json, show=lambda: table(columns, rows))


def demo(
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="Where to make it.")] = Path("resight-demo"),
    json: Json = False,
) -> None:
    """All of it on a made-up population: draw, import, split, train, evaluate, match."""
    from resight.demo.tour import run_demo

    result = run_demo(folder, say=(lambda line: None) if json else say)
    emit(result, as_json=json, show=lambda: None)


def names(text: str | None) -> list[str] | None:
    """The names in a text with commas between; ``None`` where none was given.

    Raises:
        InputError: a text without any name.
    """
    found = None if text is None else [name.strip() for name in text.split(",") if name.strip()]
    if found == []:
        raise InputError(f"{text!r} names nothing: give names with commas between, or leave the option out")
    return found


def parse_box(text: str) -> Box:
    """A box as the user writes it: ``X,Y,W,H``."""
    from resight.types import Box

    try:
        x, y, w, h = (float(part) for part in text.split(","))
    except ValueError:
        raise InputError(f"--box {text!r}: expected four numbers X,Y,W,H in pixels of the upright photo") from None
    if not (w > 0 and h > 0):
        raise InputError(f"--box {text!r}: expected a width and a height above 0")
    return Box(x, y, w, h)
