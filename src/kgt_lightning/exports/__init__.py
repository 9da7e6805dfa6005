"""Models as files that other programs open, each compared with PyTorch before it is written."""
