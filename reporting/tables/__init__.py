"""Tables of runs: aggregated over trials, compared, tested, and written as text."""
