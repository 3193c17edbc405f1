"""From features, labels, semantics and splits in files of a user's own to the GBU layout."""
