"""xresnet1d: the convolutional network that most ECG methods are measured against."""
