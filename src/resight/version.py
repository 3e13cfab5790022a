"""The version of the package, apart from it so that every room can record it."""

__version__ = "0.1.0"
