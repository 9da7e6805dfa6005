"""Key-Graph Attention: one function, several implementations."""
