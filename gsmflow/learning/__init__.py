"""What every method learns with: feeds of rows, the method contract, the trainer, classifiers."""
