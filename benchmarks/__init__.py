"""Benchmarks of attnbench itself, and studies for the tables of the documentation."""
