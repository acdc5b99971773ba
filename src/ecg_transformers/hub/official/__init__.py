"""Published checkpoints of other codes: safe loading and conversion."""
