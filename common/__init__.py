"""What every package here shares: errors, registries, derived seeds, safe file writes."""
