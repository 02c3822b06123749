"""The leaderboard as a static site: pages that work from a file, with no network and no scripts."""
