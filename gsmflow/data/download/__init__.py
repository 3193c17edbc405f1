"""Download the published features."""
