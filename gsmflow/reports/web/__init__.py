"""What every HTML page of the package has: its frame, its style, its charts."""
