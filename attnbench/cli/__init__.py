"""The command line: options in, tables out. What the verbs do is in `attnbench.commands`."""
