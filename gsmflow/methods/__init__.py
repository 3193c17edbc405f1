"""The methods, one file each, and the building blocks that several share."""
