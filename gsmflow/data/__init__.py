"""What a dataset is: its formats, splits, checks and cache."""
