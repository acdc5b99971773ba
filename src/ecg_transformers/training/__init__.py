"""Training: one loop for pre-training and fine-tuning that resumes bit-exactly and knows no method by name."""
