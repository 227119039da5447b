"""Folders of runs as records: read, checked, selected."""
