"""From a record to what a model takes: the feature extractors."""
