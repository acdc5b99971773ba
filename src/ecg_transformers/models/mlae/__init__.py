"""MLAE: a masked autoencoder over leads."""
