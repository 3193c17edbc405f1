"""From a folder of images and descriptions of classes to a dataset in the GBU layout."""
