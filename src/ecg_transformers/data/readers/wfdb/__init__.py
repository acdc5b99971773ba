"""The reader of WFDB records."""
