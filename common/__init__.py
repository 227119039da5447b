"""Shared by every package: errors, registries, derived seeds, atomic writes, command lines."""
