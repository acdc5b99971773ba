"""MERL: ECG encoders trained against reports, a ResNet and a ViT."""
