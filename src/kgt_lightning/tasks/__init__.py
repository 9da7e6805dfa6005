"""One file for each restoration task: its degradation, its data and its module."""
