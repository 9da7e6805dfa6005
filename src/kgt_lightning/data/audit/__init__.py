"""Checks of image sets: damaged files, test images in training sets, which version is there."""
