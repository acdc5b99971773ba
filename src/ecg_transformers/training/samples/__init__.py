"""What a step sees: splits, views and prepared records."""
