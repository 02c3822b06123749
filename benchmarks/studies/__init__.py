"""Measurements of attnbench and its methods other than speed, for tables of the documentation."""
