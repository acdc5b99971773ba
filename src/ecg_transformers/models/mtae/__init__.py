"""MTAE: a masked autoencoder over time, with an option for random lead masking."""
