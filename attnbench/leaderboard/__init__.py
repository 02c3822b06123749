"""The leaderboard: pooled records as a Markdown page, a static site, plots and exports.

Plots are listed in `plot_files`; each is drawn by a module of its own.
"""
