"""What a trained model looks at: its Key-Graphs, and the pixels that influence a restored one."""
