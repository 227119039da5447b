#!/usr/bin/env python3
"""Compare students with their teacher in pictures, and draw learning curves of runs; see docs/analysis.md."""

import os
import sys
from argparse import Namespace
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from common import script

if __name__ == "__main__":
    script.begin(__file__)  # the imports below take seconds

import pandas as pd

from analysis import pictures
from analysis.cka import SMALLEST_BATCH
from analysis.collect import collect
from analysis.embedding import FEWEST_IMAGES, MOST_CLASSES, ShownImages, choose_images
from analysis.evaluated_images import EvaluatedImages
from analysis.gallery import TABLE as MISTAKES
from analysis.gallery import report_mistakes, surest_mistakes
from analysis.learning_curves import BAND_NAMES, CurvePicture, curve_pictures
from analysis.named_networks import TEACHER, NamedNetwork, load_named_network, load_students
from analysis.picture_files import accuracies, highest_difference, report_curves, report_student, report_tsne
from common.command import DONE, guard, make_parser
from common.errors import RequestError
from common.files import make_folder, write_json
from common.output_places import OVERWRITE_ADVICE, check_output_folder
from dataset import DATASETS, DatasetEntry, LeftOut, load_arrays
from dataset.image_workers import set_num_workers
from engine import cli
from engine.checkpoints.run_weights import weights_file
from engine.device.compute import Compute, resolve_compute
from reporting.records.runs import read_runs

TABLES = ("cka", "confusion", "classes", "correlation", "mistakes")  # of each student
SHOWN = {"top1": "top-1", "agreement": "agreement", "kl_nats": "KL (nats)"}
SHOWN |= {"correlation_difference": "correlation difference", "cka_embedding": "CKA of embeddings"}


def parse(argv: list[str] | None) -> Namespace:
    parser = make_parser(__doc__)
    parser.add_argument(
        "--teacher", type=Path, metavar="CKPT", help="checkpoint of the teacher, or the folder of its run"
    )
    parser.add_argument("--student", type=Path, nargs="+", metavar="CKPT", help="likewise of its students")
    parser.add_argument("--alone", type=Path, metavar="CKPT", help="the student trained alone; adds the gains over it")
    parser.add_argument("--model_t", metavar="NAME", help="architecture of the teacher, if its file does not name it")
    parser.add_argument(
        "--model_s", nargs="+", metavar="NAME", help="the students' (--alone first): one for all, or one for each file"
    )
    parser.add_argument("--runs", type=Path, nargs="+", metavar="ROOT", help="folders of runs, for learning curves")
    parser.add_argument("--band", choices=BAND_NAMES, default="range", help="band of the curves: range of the trials "
                        "(default) or ± one standard deviation")  # fmt: skip
    parser.add_argument(
        "--images", type=int, default=1000, metavar="N", help="most images in the t-SNE (default: 1000)"
    )
    parser.add_argument(
        "--classes", type=int, nargs="+", metavar="N", help="classes in the t-SNE (default: 10 at most)"
    )
    parser.add_argument("--batch_size", type=int, default=250, metavar="N", help="test images per batch (default: 250)")
    parser.add_argument("--out", type=Path, required=True, metavar="FOLDER", help="folder for the pictures")
    parser.add_argument("--overwrite", action="store_true", help="replace pictures and numbers that are in FOLDER")
    cli.add_checkpoint_arguments(parser, several=True)
    cli.add_data_arguments(parser)
    cli.add_compute_arguments(parser, precision="fp32")
    return parser.parse_args(argv)


def check(arguments: Namespace) -> None:
    """Check the command line before anything is loaded. Raises RequestError."""
    if bool(arguments.teacher) != bool(arguments.student):
        raise RequestError("name a teacher and its students: --teacher CKPT --student CKPT [CKPT ...]")
    if not arguments.teacher and not arguments.runs:
        raise RequestError("name networks (--teacher CKPT --student CKPT) or folders of runs (--runs ROOT) or both")
    if arguments.alone and not arguments.student:
        raise RequestError("--alone needs students to compare with; add --teacher CKPT --student CKPT")
    files = (arguments.teacher is not None) + (arguments.alone is not None) + len(arguments.student or ())
    if arguments.weights_key and len(arguments.weights_key) not in (1, files):
        raise RequestError(
            f"--weights_key has {len(arguments.weights_key)} keys for {files} networks; give one, or one for each in "
            "the order --teacher, --alone, --student"
        )
    if arguments.images < FEWEST_IMAGES:
        raise RequestError(f"--images is {arguments.images}; it must be {FEWEST_IMAGES} or more")
    if arguments.batch_size < SMALLEST_BATCH:
        raise RequestError(f"--batch_size is {arguments.batch_size}; unbiased CKA needs {SMALLEST_BATCH} or more")
    check_output_folder("--out", arguments.out)


def chosen_classes(given: list[int] | None, entry: DatasetEntry) -> list[int]:
    """Classes in the t-SNE. Raises RequestError if they are too many, repeated or unknown."""
    classes = list(range(min(MOST_CLASSES, entry.num_classes))) if given is None else given
    if len(classes) > MOST_CLASSES or len(set(classes)) < len(classes):
        raise RequestError(f"--classes names {len(classes)} classes; give at most {MOST_CLASSES}, each once")
    for c in classes:
        if not 0 <= c < entry.num_classes:
            raise RequestError(f"--classes {c}: the classes of {entry.name} are 0 to {entry.num_classes - 1}")
    return classes


def find_curves(roots: list[Path], band: str) -> list[CurvePicture]:
    """Learning curves of the runs below `roots`; skipped runs are listed on stderr. Raises RequestError for none."""
    for root in roots:
        if not os.path.isdir(root):
            raise RequestError(f"--runs {root} is not a folder; give one that contains runs, such as save")
    runs, skipped = read_runs(roots)
    found, notes = curve_pictures(runs, band)
    for remark in [*map(str, skipped), *notes]:
        print(remark, file=sys.stderr)
    if not found:
        raise RequestError(f"--runs {' '.join(map(str, roots))}: no finished run with metrics.jsonl was found")
    return found


def check_new(arguments: Namespace, curves: Sequence[str], students: Sequence[str]) -> None:
    """Check that no earlier analysis would be lost. Raises RequestError."""
    names = [f"curves_{name}.csv" for name in curves]
    if students:
        names += ["analysis.json", "tsne.csv", *(f"{name}/{kind}.csv" for name in students for kind in TABLES)]
        names.append(f"{TEACHER}/{MISTAKES}")
    if not arguments.overwrite:
        for name in names:
            if os.path.lexists(arguments.out / name):
                raise RequestError(f"--out {arguments.out} holds {name} already; {OVERWRITE_ADVICE}")


def analyse(
    arguments: Namespace, entry: DatasetEntry, compute: Compute, teacher: NamedNetwork, students: list[NamedNetwork]
) -> None:
    """Write all pictures of the networks and `analysis.json`, and print the scalar figures."""
    classes = chosen_classes(arguments.classes, entry)
    set_num_workers(arguments.num_workers)
    data = load_arrays(entry.name, arguments.data_folder, LeftOut(arguments.skip_bad_images))
    tested = EvaluatedImages.of(data, entry)
    chosen = choose_images(tested.labels, classes, arguments.images)
    networks = [teacher, *students]
    for named in networks:
        compute.place(named.network)
    predictions = collect(networks, data, entry, compute, chosen, arguments.batch_size)
    shown_texts = [tested.texts[label] for label in classes]
    shown = ShownImages(chosen, tested.labels[chosen], classes, entry.num_classes, shown_texts)
    report_tsne(arguments.out, networks, predictions, shown)
    alone = predictions[1] if arguments.alone else None
    highest = highest_difference(predictions[0], predictions[1:])
    records = []
    for student, own in zip(students, predictions[1:], strict=True):
        baseline = None if own is alone else alone
        folder, taught_by = arguments.out / student.name, (teacher, predictions[0])
        figures = report_student(folder, tested, taught_by, (student, own), baseline, highest)
        records.append(described(student) | figures)
    settings = {"dataset": entry.name, "test_images": len(tested.labels), "precision": compute.precision}
    settings |= {"classes": list(tested.names)}
    settings |= {"batch_size": arguments.batch_size, "tsne_images": len(chosen), "tsne_classes": classes}
    of_teacher = accuracies(predictions[0].logits, tested)
    report_mistakes(arguments.out / TEACHER, surest_mistakes(predictions[0].logits, tested.labels), tested)
    content = {"format": 1, **settings, "teacher": described(teacher) | of_teacher, "students": records}
    write_json(arguments.out / "analysis.json", content)
    table = pd.DataFrame(records).set_index("name")[list(SHOWN)].rename(columns=SHOWN)
    print(f"{teacher.name} ({teacher.arch}): top-1 {of_teacher['top1']:.2f}\n")
    print(table.to_markdown(floatfmt=("", ".2f", ".4f", ".4f", ".4f", ".4f")))


def described(named: NamedNetwork) -> dict[str, str]:
    """Entry of a network in `analysis.json`."""
    return {"name": named.name, "path": str(named.path), "model": named.arch, "sha256": named.sha256}


@guard
def main(argv: list[str] | None = None) -> int:
    arguments = parse(argv)
    check(arguments)
    entry = DATASETS.find(arguments.dataset, arguments.data_folder)
    chosen_classes(arguments.classes, entry)
    compute = resolve_compute(arguments.device, arguments.precision, compilation="off", deterministic=True)
    teacher, students = None, []
    if arguments.teacher:
        students_alone = [("--alone", arguments.alone)] if arguments.alone else []
        named = [
            ("--teacher", arguments.teacher),
            *students_alone,
            *(("--student", path) for path in arguments.student),
        ]
        path_t, *paths = [weights_file(path, flag) for flag, path in named]
        # A message names --model_s for a student's file.
        of_teacher, *choices = [
            replace(choice, model_flag="--model_s" if number else "--model_t")
            for number, choice in enumerate(cli.weights_choices(arguments, "--model_t") * len(named))
        ][: len(named)]
        accepts = arguments.allow_namespace
        teacher = load_named_network(path_t, entry, TEACHER, arguments.model_t, accepts, of_teacher)
        students = load_students(paths, entry, arguments.model_s, accepts, choices)
    curves = find_curves(arguments.runs, arguments.band) if arguments.runs else []
    check_new(arguments, [picture.name for picture in curves], [student.name for student in students])
    make_folder(arguments.out)
    with pictures.style():
        for picture in curves:
            report_curves(arguments.out, picture, arguments.band)
        if teacher is not None:
            analyse(arguments, entry, compute, teacher, students)
    print(f"{'' if teacher is None else chr(10)}pictures and their numbers are in {arguments.out}")
    return DONE


if __name__ == "__main__":
    script.run(main, __file__)
