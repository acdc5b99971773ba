"""Experiments over everything: the grid behind a card, its probes, figures and report."""
