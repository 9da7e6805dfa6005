"""From folders of image files to batches of degraded and clean images."""
