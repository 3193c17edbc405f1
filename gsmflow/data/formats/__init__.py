"""The formats that datasets are read from, one file each."""
