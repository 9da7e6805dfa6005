"""How a command gets its configuration: composed by Hydra, checked, with errors for people."""
