"""Writing the catalogue out: one file per output format."""
