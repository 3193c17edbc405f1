"""What all methods share: feeds of rows, the model interface, the trainer, classifiers."""
