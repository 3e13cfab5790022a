"""A made-up population to try resight on: three species that do not exist, drawn by code from a seed."""
