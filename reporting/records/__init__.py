"""Finished runs as records: read from their folders, checked, selected and grouped."""
