"""A run: reading submissions, planning records, writing them, resuming, reporting progress."""
