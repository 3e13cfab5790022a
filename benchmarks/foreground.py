"""How well animals are found in their boxes without outlines, against outlines that people drew.

    python benchmarks/foreground.py PROJECT [--species nyala] [--photos 150] [--fitted 100] [--picture FILE]

The estimate is fitted to ``--fitted`` photos, whose outlines it does not see, and judged on all ``--photos``, drawn at
random. Peers: the whole box; the mean of all outlines, cut at a half; and a logistic regression on the same cells that
is told the outlines of half of the individuals and judged on the other half. Of species without outlines only the share
in one piece is printed, by which the package decides whether to use an estimate. ``--picture`` shows twelve photos.
"""

from __future__ import annotations

import argparse
import sys
import zlib
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from sklearn.linear_model import LogisticRegression

from resight.catalogue import store as catalogue
from resight.catalogue.photos import PhotoReader
from resight.images import upright_size
from resight.matching.local.features import ExtractorSpec
from resight.matching.local.foreground import CELLS, LEAST_IN_ONE, CellNetwork, fit_foreground
from resight.matching.local.store import Shown, show
from resight.outlines import read_outline
from resight.project.folder import ProjectFolder

Bools = NDArray[np.bool_]
SPEC = ExtractorSpec(longest_px=640)
CLEAR = 0.2  # cells with more of the animal than this, and less than the rest, teach the regression nothing


def drawn(project: ProjectFolder, species: str, count: int) -> list[tuple[str, Shown]]:
    """Individual and chip of photos drawn at random, those with an outline where any has one."""
    with project.database.reading() as connection:
        annotations = [a for a in catalogue.list_annotations(connection, project.settings, species=[species])
                       if a.image_status != "quarantined"]  # fmt: skip
        outlines = catalogue.outlines(connection, [a.annotation_id for a in annotations])
    chosen = [a for a in annotations if a.annotation_id in outlines] or annotations
    reader = PhotoReader(project.settings.image_roots)
    found = []
    for row in np.random.default_rng(0).permutation(len(chosen))[:count]:
        one = chosen[row]
        photo = reader.read(one)
        outline = None
        if one.annotation_id in outlines:
            outline = read_outline(outlines[one.annotation_id], *upright_size(photo.content, photo.name))
        found.append((str(one.individual), show(photo.content, photo.name, one.box, one.theta_rad, outline, SPEC)))
    return found


def truth_of(shown: Shown) -> Bools:
    """(h, w): the chip's pixels inside the outline."""
    height, width = shown.chip.shape[:2]
    y, x = np.mgrid[0:height, 0:width]
    return shown.inside(np.stack([x.ravel(), y.ravel()], axis=1).astype(np.float32)).reshape(height, width)


def figures(name: str, masks: list[Bools], truths: list[Bools]) -> None:
    """Print one row: means over photos, in percent."""
    rows = []
    for mask, truth in zip(masks, truths, strict=True):
        both = (mask & truth).sum()
        rows.append((both / (mask | truth).sum(), both / truth.sum(), (mask & ~truth).sum() / (~truth).sum()))
    overlap, animal, around = 100 * np.mean(rows, axis=0)
    print(f"| {name} | {overlap:.1f} | {animal:.1f} | {around:.1f} |")


def enlarged(scores: NDArray[np.float64], truths: list[Bools]) -> list[Bools]:
    """(n, CELLS, CELLS) → masks of the chips' sizes, where the scores are above 0."""
    return [
        np.asarray(Image.fromarray(row.astype(np.float32)).resize(truth.shape[::-1], Image.Resampling.BILINEAR)) > 0
        for row, truth in zip(scores, truths, strict=True)
    ]


def told(cells: NDArray[np.float32], shares: NDArray[np.float64], names: list[str]) -> NDArray[np.float64]:
    """Scores of a logistic regression that knows the outlines of the other half of the individuals."""
    rows = (cells - cells.mean(axis=(0, 1, 2))) / (cells.std(axis=(0, 1, 2)) + 1e-6)
    half = np.array([zlib.crc32(name.encode()) % 2 for name in names])
    scores = np.empty(shares.shape)
    for part in (0, 1):
        known, values = rows[half == part].reshape(-1, rows.shape[-1]), shares[half == part].ravel()
        clear = np.random.default_rng(0).permutation(np.flatnonzero(abs(values - 0.5) > 0.5 - CLEAR))[:20_000]
        fit = LogisticRegression(C=0.01, max_iter=300).fit(known[clear], values[clear] > 0.5)
        judged = rows[half != part]
        scores[half != part] = fit.decision_function(judged.reshape(-1, rows.shape[-1])).reshape(judged.shape[:3])
    return scores


def main() -> int:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("project", type=Path)
    parser.add_argument("--species", default="nyala")
    parser.add_argument("--photos", type=int, default=150)
    parser.add_argument("--fitted", type=int, default=100)
    parser.add_argument("--picture", type=Path)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    found = drawn(ProjectFolder(arguments.project), arguments.species, arguments.photos)
    network = CellNetwork()
    cells = np.stack([network.cells(shown.chip) for _, shown in found])
    estimate = fit_foreground(cells[: arguments.fitted])
    print(f"{arguments.species}: {len(found)} photos; {100 * estimate.in_one:.1f} % of what was found is in one piece, "
          f"{100 * LEAST_IN_ONE:.0f} % wanted")  # fmt: skip
    masks = [estimate.mask(row, shown.chip.shape[1::-1]) for row, (_, shown) in zip(cells, found, strict=True)]
    masks = [np.ones(shown.chip.shape[:2], np.bool_) if mask is None else mask
             for mask, (_, shown) in zip(masks, found, strict=True)]  # fmt: skip
    if all(shown.mask is not None for _, shown in found):
        truths = [truth_of(shown) for _, shown in found]
        small = (Image.fromarray(one.astype(np.float32)).resize((CELLS, CELLS), Image.Resampling.BOX) for one in truths)
        shares = np.stack([np.asarray(one, np.float64) for one in small])
        print("| | overlap (IoU) | of the animal kept | of the rest kept |\n|---|---|---|---|")
        figures("whole box", [np.ones_like(one) for one in truths], truths)
        figures("mean outline", enlarged(np.repeat(shares.mean(axis=0)[None] - 0.5, len(found), 0), truths), truths)
        figures("estimate", masks, truths)
        figures("told half of the outlines", enlarged(told(cells, shares, [name for name, _ in found]), truths), truths)
    if arguments.picture:
        tiles = []
        for mask, (_, shown) in list(zip(masks, found, strict=True))[:12]:
            dimmed = np.where(mask[..., None], shown.chip, shown.chip // 4)
            tiles.append(np.asarray(Image.fromarray(np.concatenate([shown.chip, dimmed], axis=1)).resize((400, 240))))
        rows = [np.concatenate(tiles[start : start + 3], axis=1) for start in range(0, len(tiles), 3)]
        Image.fromarray(np.concatenate(rows)).save(arguments.picture)
    return 0


if __name__ == "__main__":
    sys.exit(main())
