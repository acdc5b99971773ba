"""ECG-JEPA: predict the teacher's latent of hidden times; Cross-Pattern Attention over leads and times."""
