"""Columns of the tidy table that `table.tabulate` makes."""

GROUP = ["dataset", "num_classes", "image_size", "group", "protocol_id"]  # runs compare within one group only
PAIR = [*GROUP, "teacher", "student"]
ROW = [*PAIR, "role", "method"]
FIGURES = ["selection", "top1_mean", "top1_std", "top5_mean", "last_mean", "last_std", "best_mean", "best_std"]
HELD_OUT = ["validation_mean", "validation_std", "validation_images", "test_images", "checkpoint"]
BALANCED = ["balanced_mean", "uneven_classes"]
TESTS = ["test", "p", "p_holm", "low", "high", "bootstrap_low", "bootstrap_high"]  # of a difference of two rows
AGAINST_ALONE = ["gain", *(f"gain_{name}" for name in TESTS)]
AGAINST_KD = ["gain_over_kd", *(f"kd_{name}" for name in TESTS)]
ACROSS = ["common_pairs", "average_rank", "ari"]
COSTS = [
    "seconds_per_epoch",
    "initial_epochs",
    "initial_seconds",
    "images_per_second",
    "peak_memory_mib",
    "parameters",
    "method_parameters",
    "hardware",
]
SIZES = ["macs", "file_bytes"]
LATENCY = ["latency_ratio", "latency_ms", "teacher_latency_ms", "latency_hardware"]
HEAD = ["dataset", "num_classes", "image_size", "protocol_id", "group", "protocol", "teacher", "student", "role"]
LISTS = ["trials", "seeds", "values", "paths"]  # one entry per trial
COLUMNS = [*HEAD, "method", "n", *FIGURES, *AGAINST_ALONE, "gap_recovered"]
COLUMNS += ["methods", *AGAINST_KD, *ACROSS, *COSTS, *LISTS, *HELD_OUT, *BALANCED, *SIZES, *LATENCY]
ROLES = ("teacher", "student", "former", "method", "probe", "network")  # the order of rows within a pair
REFERENCE = "kd"  # the method that the others are tested against
