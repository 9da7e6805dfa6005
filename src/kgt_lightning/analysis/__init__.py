"""What a trained model looks at: its Key-Graphs, the pixels that influence a restored one, and what it leaves there."""
