"""Checkpoints of the world: official files converted, cards rendered, repositories published, graphs exported."""
