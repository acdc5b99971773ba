"""What a run will do: settings, batches, random streams, learning rates."""
