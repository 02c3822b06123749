"""Engines run many episodes: one after the other, in several processes, or on a cluster.

`engine` has the interface. A new engine is also added to `registry` and to `attnbench.vocabulary`.
"""
