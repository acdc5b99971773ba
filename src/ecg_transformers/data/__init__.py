"""Records, readers, corpora: everything between a file on disk and a dataset row."""
