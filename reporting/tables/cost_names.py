"""The costs of a student that flags name, which the command line is checked with before libraries are imported."""

COST_NAMES = ("parameters", "macs", "bytes", "latency")
DEFAULT_COST = "macs"
