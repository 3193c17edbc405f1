"""The answers for new pictures as one self-contained HTML page: ``predict --html``."""
