"""Signals as NumPy arrays: leads, units, resampling, filters, crops, normalisation, augmentation. NumPy and SciPy only."""
