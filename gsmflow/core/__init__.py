"""General utilities without zero-shot learning: errors, random numbers, devices, files."""
