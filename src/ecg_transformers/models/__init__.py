"""Methods, one folder each, and the registry that answers for them."""
