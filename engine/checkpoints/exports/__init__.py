"""Students as files that run without this repository: written in three formats, described, compared and read back."""
