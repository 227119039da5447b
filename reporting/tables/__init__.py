"""Records as tables: aggregation, statistics, comparisons and layout."""
