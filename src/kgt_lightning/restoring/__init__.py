"""From an image file to the restored one: tile by tile, mixed with the original, with all that the file tells."""
