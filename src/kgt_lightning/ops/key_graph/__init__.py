"""The Key-Graph: its constructor and the forms in which kernels read it."""
