"""Several models as one: how much each counts in a species, and their vectors as one set of vectors."""
