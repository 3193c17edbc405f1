"""A recipe: dataset, method, training and protocol; its flags, checks and files."""
