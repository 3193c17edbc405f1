"""The page of a leaderboard: methods and datasets, their figures, time and ranks."""
