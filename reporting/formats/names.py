"""The names of the formats of compare.py, which its command line is checked with before they are imported."""

FORMATS = ("terminal", "markdown", "latex", "csv", "json", "html")
SUFFIXES = {".md": "markdown", ".tex": "latex", ".csv": "csv", ".json": "json", ".html": "html"}
DATA_FORMATS = ("csv", "json")  # for programs: the remarks would spoil them, so they go to stderr
SHORTENED_FORMATS = ("terminal", "markdown", "latex")  # a page sorts and hides rows itself, programs want all
