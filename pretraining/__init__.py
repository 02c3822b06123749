"""Training of the networks that ship with attnbench: `python -m pretraining NAME`.

A recipe is data, and its hash is stored in the weights file, which shows what recipe the weights
come from. Each training objective is a module of this package. The package is part of the
repository but not of the wheel.
"""
