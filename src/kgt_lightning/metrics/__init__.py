"""Scores of restored images under named protocols, and what papers report."""
