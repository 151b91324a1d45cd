"""usidstream: the instrument's side of a streaming acquisition daemon."""

__version__ = "0.1.0"
