"""Net1D, the residual network of ECGFounder."""
