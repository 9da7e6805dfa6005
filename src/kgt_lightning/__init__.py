"""The Key-Graph Transformer for image restoration, as an open experiment platform."""

__version__ = "0.1.0"
