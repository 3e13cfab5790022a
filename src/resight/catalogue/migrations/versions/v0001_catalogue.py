"""The first catalogue: state, sources, images, individuals, encounters, annotations, splits, ledger."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None


def upgrade() -> None:
    op.create_table(
        "state",
        sa.Column("id", sa.Integer, primary_key=True),
        sa.Column("revision", sa.Integer, nullable=False),
    )
    op.create_table(
        "sources",
        sa.Column("id", sa.Integer, primary_key=True),
        sa.Column("name", sa.Text, nullable=False, unique=True),
        sa.Column("format", sa.Text, nullable=False),
        sa.Column("path", sa.Text, nullable=False),
        sa.Column("imported_at_utc", sa.Text, nullable=False),
    )
    op.create_table(
        "images",
        sa.Column("id", sa.Integer, primary_key=True),
        sa.Column("root", sa.Text, nullable=False),
        sa.Column("path", sa.Text, nullable=False),
        sa.Column("status", sa.Text, nullable=False),
        sa.Column("problem", sa.Text),
        sa.Column("content_hash", sa.Text),
        sa.Column("byte_size", sa.BigInteger),
        sa.Column("modified_ns", sa.BigInteger),
        sa.Column("width", sa.Integer),
        sa.Column("height", sa.Integer),
        sa.Column("taken_at", sa.Text),
        sa.Column("latitude", sa.Float),
        sa.Column("longitude", sa.Float),
        sa.UniqueConstraint("root", "path"),
    )
    op.create_table(
        "individuals",
        sa.Column("id", sa.Integer, primary_key=True),
        sa.Column("scope", sa.Text, nullable=False),
        sa.Column("name", sa.Text, nullable=False),
        sa.UniqueConstraint("scope", "name"),
    )
    op.create_table(
        "encounters",
        sa.Column("id", sa.Integer, primary_key=True),
        sa.Column("source_id", sa.Integer, sa.ForeignKey("sources.id"), nullable=False),
        sa.Column("key", sa.Text, nullable=False),
        sa.UniqueConstraint("source_id", "key"),
    )
    op.create_table(
        "annotations",
        sa.Column("id", sa.Integer, primary_key=True),
        sa.Column("key", sa.Text, nullable=False, unique=True),
        sa.Column("source_id", sa.Integer, sa.ForeignKey("sources.id"), nullable=False),
        sa.Column("source_key", sa.Text, nullable=False),
        sa.Column("image_id", sa.Integer, sa.ForeignKey("images.id"), nullable=False),
        sa.Column("file_name", sa.Text, nullable=False),
        sa.Column("species", sa.Text, nullable=False),
        sa.Column("part", sa.Text),
        sa.Column("viewpoint", sa.Text),
        sa.Column("source_viewpoint", sa.Text),
        sa.Column("individual_id", sa.Integer, sa.ForeignKey("individuals.id")),
        sa.Column("source_individual_id", sa.Integer, sa.ForeignKey("individuals.id")),
        sa.Column("encounter_id", sa.Integer, sa.ForeignKey("encounters.id")),
        sa.Column("box_x", sa.Float),
        sa.Column("box_y", sa.Float),
        sa.Column("box_w", sa.Float),
        sa.Column("box_h", sa.Float),
        sa.Column("theta_rad", sa.Float, nullable=False),
        sa.Column("quality", sa.Float),
        sa.Column("outline", sa.JSON(none_as_null=True)),
        sa.UniqueConstraint("source_id", "source_key"),
    )
    op.create_table(
        "splits",
        sa.Column("id", sa.Integer, primary_key=True),
        sa.Column("name", sa.Text, nullable=False, unique=True),
        sa.Column("protocol", sa.Text, nullable=False),
        sa.Column("seed", sa.Integer, nullable=False),
        sa.Column("catalogue_revision", sa.Integer, nullable=False),
        sa.Column("made_at_utc", sa.Text, nullable=False),
        sa.Column("policies", sa.JSON, nullable=False),
        sa.Column("report", sa.JSON, nullable=False),
    )
    op.create_table(
        "split_members",
        sa.Column("split_id", sa.Integer, sa.ForeignKey("splits.id"), primary_key=True),
        sa.Column("annotation_key", sa.Text, primary_key=True),
        sa.Column("species", sa.Text, nullable=False),
        sa.Column("individual", sa.Text, nullable=False),
        sa.Column("identity", sa.Text, nullable=False),
        sa.Column("encounter", sa.Text, nullable=False),
        sa.Column("subset", sa.Text, nullable=False),
    )
    op.create_table(
        "ledger",
        sa.Column("id", sa.Integer, primary_key=True),
        sa.Column("revision", sa.Integer, nullable=False),
        sa.Column("at_utc", sa.Text, nullable=False),
        sa.Column("actor", sa.Text, nullable=False),
        sa.Column("action", sa.Text, nullable=False),
        sa.Column("annotation_key", sa.Text, nullable=False),
        sa.Column("species_before", sa.Text),
        sa.Column("individual_before", sa.Text),
        sa.Column("species_after", sa.Text),
        sa.Column("individual_after", sa.Text),
        sa.Column("note", sa.Text),
    )
    op.create_index("ix_images_content_hash", "images", ["content_hash"])
    op.create_index("ix_annotations_image_id", "annotations", ["image_id"])
    op.create_index("ix_annotations_species", "annotations", ["species"])
    op.create_index("ix_annotations_individual_id", "annotations", ["individual_id"])
    op.create_index("ix_ledger_annotation_key", "ledger", ["annotation_key"])
    op.execute("INSERT INTO state (id, revision) VALUES (1, 0)")
