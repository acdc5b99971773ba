"""The processes of a run: their start, their signals and the lock of the output folder."""
