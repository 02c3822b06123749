"""The functions behind the verbs of the command line, also callable from Python."""
