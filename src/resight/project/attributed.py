"""What a project does with attributes: fit heads on what is labelled, propose, accept, correct and reject."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from resight.catalogue import deciding, proposals, store
from resight.catalogue.deciding import Decided
from resight.catalogue.intake import actor
from resight.catalogue.proposals import ListedProposal, ProposalFilter, Replaced
from resight.errors import UnknownName
from resight.project.catalogued import CatalogueMethods

if TYPE_CHECKING:
    from resight.artefacts import Passport
    from resight.attributes.predicting import Predicted
    from resight.attributes.report import HeadReport
    from resight.embedding import EmbeddingSet
    from resight.types import Annotation


@dataclass(frozen=True)
class Proposed:
    """What predicting an attribute did.

    Attributes:
        field: species, part, viewpoint or quality.
        model: The head that proposes.
        threshold: The confidence from which a value was proposed.
        predicted: What it said, and of how many it said nothing and why.
        written: What that changed.
    """

    field: str
    model: str
    threshold: float | None
    predicted: Predicted
    written: Replaced


class AttributeMethods(CatalogueMethods):
    """Methods about species, part, viewpoint and quality."""

    @property
    def attributes_folder(self) -> Path:
        """Heads, one folder a field."""
        return self.folder / "attributes"

    def train_attribute(
        self, field: str, *, species: Sequence[str] | None = None, right: float | None = None
    ) -> HeadReport:
        """Fit a head where a source or a person has said the field, and check it on individuals held out.

        Args:
            field: species, part, viewpoint or quality.
            species: Only of these; ``None``: all.
            right: The share of proposed values that is to be right; ``None`` takes the usual one.

        Raises:
            UnknownName: no such field or species.
            InputError: too few labels.
        """
        from resight.attributes.fitting import FitOptions, fit_head
        from resight.attributes.labels import choose_labelled, with_features
        from resight.attributes.report import write_report

        UnknownName.require("attribute", [field], proposals.FIELDS)
        options = FitOptions() if right is None else FitOptions(right=right)
        with self.database.reading() as connection:
            annotations = store.list_annotations(connection, self.settings, unnamed=True)
            settled = proposals.settled(connection, field)
        labelled = choose_labelled(annotations, field, species=species, settled=settled)
        embeddings, passport = self._features(labelled.annotations)
        row_of = embeddings.row_of()
        labelled = with_features(labelled, row_of)
        rows = [row_of[one.annotation_id] for one in labelled.annotations]
        features = np.asarray(embeddings.vectors[rows], np.float32)
        head, metrics = fit_head(labelled, features, passport.decides, options)
        head.save(self.attributes_folder / field)
        return write_report(head, metrics, labelled, self.reports_folder)

    def predict_attribute(
        self,
        field: str,
        *,
        species: Sequence[str] | None = None,
        any_species: bool = False,
        threshold: float | None = None,
    ) -> Proposed:
        """Propose a field for the annotations of which nobody has said it.

        Args:
            field: species, part, viewpoint or quality.
            species: Only of these, stated or proposed.
            any_species: Also of species that the head was not fitted on.
            threshold: Another than the head's own.

        Raises:
            UnknownName: no such field or species.
            InputError: there is no head for the field yet.
        """
        from resight.attributes.head import Head
        from resight.attributes.predicting import choose_unknown, propose
        from resight.embedding import EmbeddingSet

        UnknownName.require("attribute", [field], proposals.FIELDS)
        head = Head.load(self.attributes_folder / field, field)
        with self.database.reading() as connection:
            annotations = store.list_annotations(connection, self.settings, unnamed=True)
            settled = proposals.settled(connection, field)
            rejected = proposals.rejected(connection, field)
        unknowns = choose_unknown(annotations, head, settled=settled, species=species, any_species=any_species)
        if unknowns.annotations:
            embeddings, passport = self._features(unknowns.annotations)
            head.require_features(passport)
        else:
            embeddings = EmbeddingSet(head.name, (), (), np.empty((0, head.centre.shape[0]), np.float16))
        predicted = propose(head, unknowns, embeddings, rejected=rejected, threshold=threshold)
        with self.database.writing() as (connection, _):
            written = proposals.replace_proposals(connection, field, predicted.proposals, predicted.asked)
        return Proposed(field, head.name, head.threshold if threshold is None else threshold, predicted, written)

    def _features(self, annotations: Sequence[Annotation]) -> tuple[EmbeddingSet, Passport]:
        """The features that heads read, made where they are not there yet."""
        from resight.attributes.network import NETWORK, attribute_network
        from resight.embedding import passport_for
        from resight.models.choosing import best_device
        from resight.models.torch_runtime import TorchRuntime

        network = TorchRuntime(attribute_network(), device=best_device())
        outcome, _ = self._embed(annotations, NETWORK, network)
        return outcome.embeddings, passport_for(network)

    def proposals(self, which: ProposalFilter) -> list[ListedProposal]:
        """What is proposed and not decided, the least sure first."""
        with self.database.reading() as connection:
            return list(proposals.list_proposals(connection, which))

    def accept(self, which: ProposalFilter) -> Decided:
        """Make proposed values the annotations' own; see :func:`resight.catalogue.deciding.accept`."""
        with self.database.writing() as (connection, revision):
            return deciding.accept(connection, revision, which, actor=actor())

    def reject(self, which: ProposalFilter) -> Decided:
        """Take proposals away for good; see :func:`resight.catalogue.deciding.reject`."""
        with self.database.writing() as (connection, revision):
            return deciding.reject(connection, revision, which, actor=actor())

    def correct(self, field: str, value: str, annotation_ids: Collection[str]) -> Decided:
        """Say what is so; see :func:`resight.catalogue.deciding.correct`."""
        with self.database.writing() as (connection, revision):
            return deciding.correct(
                connection, revision, annotation_ids, field, value, settings=self.settings, actor=actor()
            )
