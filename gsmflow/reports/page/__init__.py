"""One self-contained HTML page of a finished run: ``python -m gsmflow report``."""
