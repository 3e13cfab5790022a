"""The tables of the catalogue, in portable SQL: SQLite now, a ``postgresql://`` URL by the same statements.

Times are ISO 8601 text, since a camera's date often has no zone and sometimes no time. The ledger is append-only:
on SQLite two triggers refuse to change or delete its rows.
"""

from __future__ import annotations

from sqlalchemy import (
    JSON,
    BigInteger,
    Column,
    Float,
    ForeignKey,
    Index,
    Integer,
    MetaData,
    Table,
    Text,
    UniqueConstraint,
)

SCHEMA_VERSION = "0003"  # the newest migration; a test holds the two together

metadata = MetaData()

state = Table(
    "state",
    metadata,
    Column("id", Integer, primary_key=True),
    Column("revision", Integer, nullable=False),
)

sources = Table(
    "sources",
    metadata,
    Column("id", Integer, primary_key=True),
    Column("name", Text, nullable=False, unique=True),
    Column("format", Text, nullable=False),
    Column("path", Text, nullable=False),
    Column("imported_at_utc", Text, nullable=False),
)

images = Table(
    "images",
    metadata,
    Column("id", Integer, primary_key=True),
    Column("root", Text, nullable=False),
    Column("path", Text, nullable=False),
    Column("status", Text, nullable=False),  # ok, unverified, quarantined
    Column("problem", Text),
    Column("content_hash", Text),
    Column("byte_size", BigInteger),
    Column("modified_ns", BigInteger),
    Column("width", Integer),
    Column("height", Integer),
    Column("taken_at", Text),
    Column("latitude", Float),
    Column("longitude", Float),
    # Of photos that came without annotations:
    Column("source_id", Integer, ForeignKey("sources.id")),
    Column("camera", Text),
    Column("camera_time", Text),  # as the camera had it; taken_at is that and the clock's offset
    Column("encounter_id", Integer, ForeignKey("encounters.id")),  # counts where the annotation has none of its own
    Column("species", Text),  # of every animal in it, where the import said so
    Column("detector", Text),  # what looked for animals last; NULL where nothing has
    Column("detector_best", Float),  # the highest confidence below the threshold
    UniqueConstraint("root", "path"),
    Index("ix_images_content_hash", "content_hash"),
    Index("ix_images_source_id", "source_id"),
)

# scope is a species, or GLOBAL_SCOPE where the source's names hold across species.
GLOBAL_SCOPE = "*"
individuals = Table(
    "individuals",
    metadata,
    Column("id", Integer, primary_key=True),
    Column("scope", Text, nullable=False),
    Column("name", Text, nullable=False),
    UniqueConstraint("scope", "name"),
)

encounters = Table(
    "encounters",
    metadata,
    Column("id", Integer, primary_key=True),
    Column("source_id", Integer, ForeignKey("sources.id"), nullable=False),
    Column("key", Text, nullable=False),
    UniqueConstraint("source_id", "key"),
)

# What the source said last (source_*) stands beside what holds now, so that importing a file again never undoes a
# decision a person made since.
annotation_table = Table(
    "annotations",
    metadata,
    Column("id", Integer, primary_key=True),
    Column("key", Text, nullable=False, unique=True),
    Column("source_id", Integer, ForeignKey("sources.id"), nullable=False),
    Column("source_key", Text, nullable=False),
    Column("image_id", Integer, ForeignKey("images.id"), nullable=False),
    Column("file_name", Text, nullable=False),
    Column("species", Text),
    Column("source_species", Text),
    Column("part", Text),
    Column("viewpoint", Text),
    Column("source_viewpoint", Text),
    Column("individual_id", Integer, ForeignKey("individuals.id")),
    Column("source_individual_id", Integer, ForeignKey("individuals.id")),
    Column("encounter_id", Integer, ForeignKey("encounters.id")),
    Column("box_x", Float),
    Column("box_y", Float),
    Column("box_w", Float),
    Column("box_h", Float),
    Column("theta_rad", Float, nullable=False),
    Column("quality", Float),
    Column("outline", JSON(none_as_null=True)),
    Column("detector", Text),  # NULL where the source gave the box
    Column("confidence", Float),
    UniqueConstraint("source_id", "source_key"),
    Index("ix_annotations_image_id", "image_id"),
    Index("ix_annotations_species", "species"),
    Index("ix_annotations_individual_id", "individual_id"),
)

# What a model proposes and nobody has accepted or corrected yet.
proposals = Table(
    "proposals",
    metadata,
    Column("annotation_id", Integer, ForeignKey("annotations.id"), primary_key=True),
    Column("field", Text, primary_key=True),  # species, part, viewpoint, quality
    Column("value", Text, nullable=False),
    Column("confidence", Float, nullable=False),
    Column("model", Text, nullable=False),
    Column("at_utc", Text, nullable=False),
)

# Numbers about a chip; measured_key is that of the chip, so that a corrected box is measured anew.
measures = Table(
    "measures",
    metadata,
    Column("annotation_id", Integer, ForeignKey("annotations.id"), primary_key=True),
    Column("measured_key", Text, nullable=False),
    Column("sharpness", Float, nullable=False),
    Column("side_px", Float, nullable=False),
    Column("contrast", Float, nullable=False),
    Column("cut_share", Float, nullable=False),
    Column("phash", Text, nullable=False),  # 16 hexadecimal digits
    Column("duplicate_of", Text),  # key of the annotation that stands for the group of near-duplicates; else NULL
)

# When an annotation was last compared with others, by which model, and with how many.
comparisons = Table(
    "comparisons",
    metadata,
    Column("annotation_id", Integer, ForeignKey("annotations.id"), primary_key=True),
    Column("model", Text, primary_key=True),
    Column("compared", Integer, nullable=False),
    Column("of", Integer, nullable=False),
    Column("at_utc", Text, nullable=False),
)

splits = Table(
    "splits",
    metadata,
    Column("id", Integer, primary_key=True),
    Column("name", Text, nullable=False, unique=True),
    Column("protocol", Text, nullable=False),
    Column("seed", Integer, nullable=False),
    Column("catalogue_revision", Integer, nullable=False),
    Column("made_at_utc", Text, nullable=False),
    Column("policies", JSON, nullable=False),
    Column("report", JSON, nullable=False),
)

split_members = Table(
    "split_members",
    metadata,
    Column("split_id", Integer, ForeignKey("splits.id"), primary_key=True),
    Column("annotation_key", Text, primary_key=True),
    Column("species", Text, nullable=False),
    Column("individual", Text, nullable=False),
    Column("identity", Text, nullable=False),
    Column("encounter", Text, nullable=False),
    Column("subset", Text, nullable=False),
)

ledger = Table(
    "ledger",
    metadata,
    Column("id", Integer, primary_key=True),
    Column("revision", Integer, nullable=False),
    Column("at_utc", Text, nullable=False),
    Column("actor", Text, nullable=False),
    Column("action", Text, nullable=False),
    Column("annotation_key", Text, nullable=False),
    Column("species_before", Text),
    Column("individual_before", Text),
    Column("species_after", Text),
    Column("individual_after", Text),
    Column("viewpoint_before", Text),
    Column("viewpoint_after", Text),
    Column("note", Text),
    Index("ix_ledger_annotation_key", "annotation_key"),
)
