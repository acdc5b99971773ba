"""One file a format. See `read_record` in `data.readers.reading`."""
