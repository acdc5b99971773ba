"""What several corpora share: packaged tables, search for files, known records, folds, headers of the Challenges."""
