"""How fast attnbench is, and what else is measured about it: see `__main__`."""
