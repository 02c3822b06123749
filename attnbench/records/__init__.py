"""Records: their schema, their summaries, their storage, and checks that they are consistent."""
