"""ECG ViT: a plain transformer on windows of time, supervised or as backbone of contrastive methods."""
