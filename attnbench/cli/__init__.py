"""The command line: options in, tables out. `attnbench.commands` has the functions behind it."""
