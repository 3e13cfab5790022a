"""Is fine-tuning enough, or must all species be trained together? (Paper §5.5, Tables 4 and 5.)"""

from __future__ import annotations

from dataclasses import replace

from resight.experiments.answer import Answer
from resight.experiments.bootstrap import ALONE, JOINED, left_out, targets
from resight.experiments.given import Given, GivenSplit, nested_individuals, without
from resight.experiments.plan import Asked, RunSpec
from resight.experiments.results import Results
from resight.experiments.sizes import Way, answer_by_size
from resight.training.presets import FINETUNE
from resight.training.recipe import Recipe

__all__ = ["QUESTION", "answer", "finetuned", "finetuning", "left_out", "runs"]

QUESTION = "Is it enough to fine-tune a model that never saw the species, or must all be trained together?"


def finetuned(species: str, number: int) -> str:
    """Label of the model without a species that was trained on so many individuals of it afterwards."""
    return f"{species} fine-tuned, {number} individuals"


def runs(given: Given, asked: Asked) -> tuple[RunSpec, ...]:
    """The model that never saw the species; at each size that model fine-tuned, a new one, and a joint one."""
    given.require_several("finetune", animals=True)
    found: list[RunSpec] = []
    for species in targets(given, asked, "finetune"):
        for split in given.splits:
            found.append(given.without(split, species))
            for number in given.sizes(species, asked.individuals)[0]:
                if number > 0:
                    found += [
                        given.alone(split, species, number),
                        _finetuned(given, split, species, number),
                        given.joined(split, species, number),
                    ]
    return tuple(found)


def _finetuned(given: Given, split: GivenSplit, species: str, number: int) -> RunSpec:
    kept = {species: nested_individuals(split, species, number)}
    return given.run(
        split,
        finetuned(species, number),
        (species,),
        tests=(species,),
        individuals=kept,
        recipe=finetuning(given.recipe),
        starts_from=without(species),
    )


def finetuning(recipe: Recipe) -> Recipe:
    """The recipe that goes on from a model of ``recipe``: its network, chips, loss and epochs; ``finetune``'s rates."""
    epochs = recipe.epochs
    return replace(
        recipe,
        name=f"{recipe.name}, fine-tuned",
        weights="init",
        optimiser=FINETUNE.optimiser,
        schedule=FINETUNE.schedule,
        learning_rate=FINETUNE.learning_rate,
        learning_rate_start=FINETUNE.learning_rate_start,
        learning_rate_end=FINETUNE.learning_rate_end,
        head_learning_rate_factor=FINETUNE.head_learning_rate_factor,
        head_only_epochs=epochs * FINETUNE.head_only_epochs // FINETUNE.epochs,
        warmup_epochs=min(FINETUNE.warmup_epochs, float(epochs)),
    )


def answer(given: Given, asked: Asked, results: Results) -> Answer:
    """Tables 4 and 5 in one."""
    return answer_by_size(
        given,
        asked,
        results,
        name="finetune",
        title="Top-1 by the number of individuals in training: from scratch, fine-tuned, and joint",
        ways=(ALONE, Way("finetuned", "fine-tuned", finetuned, "table5.fine_tuning"), JOINED),
        comparisons=(("finetuned", "alone"), ("joined", "finetuned")),
    )
