"""What has nothing to do with zero-shot learning: errors, random numbers, devices, files."""
