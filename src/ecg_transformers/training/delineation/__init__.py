"""A fine-tuning run that learns where the waves are."""
