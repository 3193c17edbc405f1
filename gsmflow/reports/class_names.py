"""Names of classes as pages and pictures show them."""

import re

__all__ = ["readable_name"]


def readable_name(name: str) -> str:
    """A name with spaces in place of the underscores between its words; long names wrap there."""
    return re.sub(r"(?<=[^_])_+(?=[^_])", " ", name)
