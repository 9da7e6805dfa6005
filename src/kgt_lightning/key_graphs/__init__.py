"""The Key-Graphs of an image, as its stages build them: captured, counted, drawn."""
