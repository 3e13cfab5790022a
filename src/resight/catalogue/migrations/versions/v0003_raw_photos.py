"""Photos without annotations, animals of unknown species, proposed values, measures and comparisons."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"


def upgrade() -> None:
    # As text: SQLite takes a column that refers to another table only in this form, and PostgreSQL takes it too.
    op.execute("ALTER TABLE images ADD COLUMN source_id INTEGER REFERENCES sources (id)")
    op.execute("ALTER TABLE images ADD COLUMN camera TEXT")
    op.execute("ALTER TABLE images ADD COLUMN camera_time TEXT")
    op.execute("ALTER TABLE images ADD COLUMN encounter_id INTEGER REFERENCES encounters (id)")
    op.execute("ALTER TABLE images ADD COLUMN species TEXT")
    op.execute("ALTER TABLE images ADD COLUMN detector TEXT")
    op.add_column("images", sa.Column("detector_best", sa.Float))
    op.create_index("ix_images_source_id", "images", ["source_id"])
    with op.batch_alter_table("annotations") as table:
        table.alter_column("species", existing_type=sa.Text, nullable=True)
        table.add_column(sa.Column("source_species", sa.Text))
        table.add_column(sa.Column("detector", sa.Text))
        table.add_column(sa.Column("confidence", sa.Float))
    op.execute("UPDATE annotations SET source_species = species")
    op.add_column("ledger", sa.Column("viewpoint_before", sa.Text))
    op.add_column("ledger", sa.Column("viewpoint_after", sa.Text))
    op.create_table(
        "proposals",
        sa.Column("annotation_id", sa.Integer, sa.ForeignKey("annotations.id"), primary_key=True),
        sa.Column("field", sa.Text, primary_key=True),
        sa.Column("value", sa.Text, nullable=False),
        sa.Column("confidence", sa.Float, nullable=False),
        sa.Column("model", sa.Text, nullable=False),
        sa.Column("at_utc", sa.Text, nullable=False),
    )
    op.create_table(
        "measures",
        sa.Column("annotation_id", sa.Integer, sa.ForeignKey("annotations.id"), primary_key=True),
        sa.Column("measured_key", sa.Text, nullable=False),
        sa.Column("sharpness", sa.Float, nullable=False),
        sa.Column("side_px", sa.Float, nullable=False),
        sa.Column("contrast", sa.Float, nullable=False),
        sa.Column("cut_share", sa.Float, nullable=False),
        sa.Column("phash", sa.Text, nullable=False),
        sa.Column("duplicate_of", sa.Text),
    )
    op.create_table(
        "comparisons",
        sa.Column("annotation_id", sa.Integer, sa.ForeignKey("annotations.id"), primary_key=True),
        sa.Column("model", sa.Text, primary_key=True),
        sa.Column("compared", sa.Integer, nullable=False),
        sa.Column("of", sa.Integer, nullable=False),
        sa.Column("at_utc", sa.Text, nullable=False),
    )
