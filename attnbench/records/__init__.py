"""Records: their form, their summaries, where they are kept, whether they agree with themselves."""
