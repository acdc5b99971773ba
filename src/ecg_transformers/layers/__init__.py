"""Torch leaves: each file stands alone and knows nothing of ECG files, of methods or of transformers."""
