"""Fetching the published features."""
