"""Image files in and out, colour, MATLAB's resizing, tiled restoring."""
