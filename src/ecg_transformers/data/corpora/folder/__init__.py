"""A folder of a user's own records, with or without a table of labels."""
