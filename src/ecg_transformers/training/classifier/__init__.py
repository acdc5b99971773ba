"""The classifier of a fine-tuning run and how it is judged."""
