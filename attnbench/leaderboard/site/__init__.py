"""The leaderboard as a static site, whose pages work from a file, offline and without scripts."""
