"""Flags that need no definition of a method, network or data set, and so no torch.

Scripts whose flags are all of this kind answer --help and a mistyped flag without importing torch, which takes seconds.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from common.command import Parser, at_least
from common.user_paths import reachable_folder

if TYPE_CHECKING:
    from engine.protocol.flags import Flags

NETWORKS = "networks and data"  # a group of flags
DEFAULT_DATASET = "cifar100"


def add_checkpoint_arguments(parser: Flags, several: bool = False) -> None:
    """Add the flags that say how a file of weights is read.

    Args:
        several: whether several files are read, each of which may have its own key.
    """
    parser.add_argument(
        "--weights_key",
        nargs="+" if several else None,
        metavar="KEY",
        help="which weights of a file, such as student or state_dict.model (default: the only ones)",
    )
    parser.add_argument("--ema", action="store_true", help="take the averaged weights (EMA, SWA) of a file")
    parser.add_argument("--allow_namespace", action="store_true", help="accept a pickled argparse.Namespace in a file")


def add_data_of_file_arguments(parser: Parser) -> None:
    """Add --dataset, by default that of a file, which the script looks up, and --data_folder."""
    parser.group(NETWORKS).add_argument(
        "--dataset",
        metavar="NAME",
        help="one of `python train_student.py --list`, or folder:NAME[@SIZE] "
        f"(default: that of the file, else {DEFAULT_DATASET})",
    )
    add_data_folder_arguments(parser)


def add_data_folder_arguments(parser: Parser) -> None:
    """Add --data_folder, --skip_bad_images and --num_workers."""
    parser.group(NETWORKS).add_argument(
        "--data_folder",
        type=reachable_folder,
        default=Path("data"),
        metavar="FOLDER",
        help="where data sets lie or are put (default data)",
    )
    further = parser.further_group("photographs in folders")
    further.add_argument(
        "--skip_bad_images",
        action="store_true",
        help="folder:NAME: leave out images that cannot be decoded; another one of the class takes the place of each",
    )
    further.add_argument(
        "--num_workers",
        type=at_least(0),
        metavar="N",
        help="folder:NAME: processes that decode images; 0: this one alone (default: one for each core, 16 at most)",
    )


def add_compute_arguments(parser: Parser, precision: str = "auto") -> None:
    """Add --device and --precision."""
    group = parser.group("computation")
    group.add_argument("--device", default="auto", metavar="NAME", help="auto, cpu, cuda or cuda:N (default auto)")
    group.add_argument(
        "--precision",
        default=precision,
        choices=("auto", "bf16", "fp32"),
        metavar="NAME",
        help=f"auto (bf16 if fast here), bf16, fp32 (default {precision})",
    )
