"""The trusted side: it holds the labels, the clock and the scorer, and runs no submission code."""
