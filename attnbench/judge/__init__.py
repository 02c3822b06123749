"""The trusted side: it holds the labels, the clock and the scorer, and runs no submission code.

`evaluator` keeps the labels of the test images and scores the answers. `worker_session` times
adaptations, and `prediction_session` times predictions. Only the backbone's forward pass is timed in a
worker (`attnbench.sandbox.warm_state`), before the submission's code is in that process.
"""
