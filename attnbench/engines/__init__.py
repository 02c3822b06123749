"""Engines run many episodes: one after the other, on several processes, or on a cluster."""
