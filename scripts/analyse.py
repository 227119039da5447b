#!/usr/bin/env python3
"""Pictures of what students share with their teacher, and learning curves of runs; see docs/analysis.md."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import numpy as np
import pandas as pd

from analysis import pictures
from analysis.cka import SMALLEST_BATCH
from analysis.collect import collect
from analysis.embedding import FEWEST_IMAGES, MOST_CLASSES, choose_images
from analysis.learning_curves import BAND_NAMES, CurvePicture, curve_pictures
from analysis.picture_files import report_curves, report_student, report_tsne
from analysis.subjects import TEACHER, Subject, load_students, load_subject
from common.command import DONE, guard, make_parser
from common.errors import RequestError
from common.files import make_folder, write_json
from dataset import DATASETS, DatasetEntry, load_arrays
from engine import cli
from engine.device.compute import Compute, resolve_compute
from reporting.records.code_versions import apart_by_code
from reporting.records.runs import read_runs

SHOWN = {"top1": "top-1", "agreement": "agreement", "kl_nats": "KL (nats)"}
SHOWN |= {"correlation_difference": "correlation difference", "cka_embedding": "CKA of embeddings"}


def parse(argv: list[str] | None):
    parser = make_parser(__doc__)
    parser.add_argument("--teacher", type=Path, metavar="CKPT", help="checkpoint of the teacher")
    parser.add_argument("--student", type=Path, nargs="+", metavar="CKPT", help="checkpoints of its students")
    parser.add_argument("--alone", type=Path, metavar="CKPT", help="the student trained alone: gains over it too")
    parser.add_argument("--model_t", metavar="NAME", help="the teacher's network, where its file does not say")
    parser.add_argument(
        "--model_s", nargs="+", metavar="NAME", help="the students' (--alone first): one for all, or one a file"
    )
    parser.add_argument("--allow_namespace", action="store_true", help="read *_last.pth files of RepDistiller")
    parser.add_argument("--runs", type=Path, nargs="+", metavar="ROOT", help="folders of runs: learning curves")
    parser.add_argument("--band", choices=BAND_NAMES, default="range", help="least to greatest trial, or ± deviation")
    parser.add_argument("--images", type=int, default=1000, metavar="N", help="test images in the t-SNE, at most")
    parser.add_argument("--classes", type=int, nargs="+", metavar="N", help="classes in the t-SNE; the first ten")
    parser.add_argument(
        "--batch_size", type=int, default=250, metavar="N", help="test images at once; CKA is per batch"
    )
    parser.add_argument("--out", type=Path, required=True, metavar="FOLDER", help="where the pictures are put")
    cli.add_data_arguments(parser)
    cli.add_compute_arguments(parser, precision="fp32")
    return parser.parse_args(argv)


def check(arguments) -> None:
    """Raises RequestError for what can be told from the command line alone."""
    if bool(arguments.teacher) != bool(arguments.student):
        raise RequestError("name a teacher and its students: --teacher CKPT --student CKPT [CKPT ...]")
    if not arguments.teacher and not arguments.runs:
        raise RequestError("name networks (--teacher CKPT --student CKPT) or folders of runs (--runs ROOT) or both")
    if arguments.alone and not arguments.student:
        raise RequestError("--alone is compared with students; add --teacher CKPT --student CKPT")
    if arguments.images < FEWEST_IMAGES:
        raise RequestError(f"--images is {arguments.images}; it must be {FEWEST_IMAGES} or more")
    if arguments.batch_size < SMALLEST_BATCH:
        raise RequestError(f"--batch_size is {arguments.batch_size}; unbiased CKA needs {SMALLEST_BATCH} or more")
    if arguments.out.exists() and not arguments.out.is_dir():
        raise RequestError(f"--out {arguments.out} is a file; name a folder")


def chosen_classes(given: list[int] | None, entry: DatasetEntry) -> list[int]:
    """The classes in the t-SNE; raises RequestError for too many, for repeated and for unknown ones."""
    classes = list(range(min(MOST_CLASSES, entry.num_classes))) if given is None else given
    if len(classes) > MOST_CLASSES or len(set(classes)) < len(classes):
        raise RequestError(f"--classes names {len(classes)} classes; name {MOST_CLASSES} at most, each once")
    for c in classes:
        if not 0 <= c < entry.num_classes:
            raise RequestError(f"--classes {c}: the classes of {entry.name} are 0 to {entry.num_classes - 1}")
    return classes


def find_curves(roots: list[Path], band: str) -> list[CurvePicture]:
    """The learning curves below `roots`; says on stderr what is left out. Raises RequestError where there are none."""
    for root in roots:
        if not root.is_dir():
            raise RequestError(f"--runs {root} is no folder; name one that holds runs, such as save")
    runs, skipped = read_runs(roots)
    found, notes = curve_pictures(apart_by_code(runs), band)
    for remark in [*map(str, skipped), *notes]:
        print(remark, file=sys.stderr)
    if not found:
        raise RequestError(f"--runs {' '.join(map(str, roots))}: no finished run with metrics.jsonl is there")
    return found


def analyse(arguments, entry: DatasetEntry, compute: Compute, teacher: Subject, students: list[Subject]) -> None:
    """Every picture of the networks, `analysis.json` with their figures, and these on stdout."""
    classes = chosen_classes(arguments.classes, entry)
    data = load_arrays(entry.name, arguments.data_folder)
    labels = np.asarray(data.test_labels)
    chosen = choose_images(labels, classes, arguments.images)
    networks = [teacher, *students]
    for subject in networks:
        compute.place(subject.network)
    answers = collect(networks, data, entry, compute, chosen, arguments.batch_size)
    report_tsne(arguments.out, networks, answers, chosen, labels[chosen], classes, entry.num_classes)
    alone = answers[1] if arguments.alone else None
    records = []
    for student, own in zip(students, answers[1:], strict=True):
        baseline = None if own is alone else alone
        figures = report_student(arguments.out / student.name, labels, (teacher, answers[0]), (student, own), baseline)
        records.append(described(student) | figures)
    settings = {"dataset": entry.name, "test_images": len(labels), "precision": compute.precision}
    settings |= {"batch_size": arguments.batch_size, "tsne_images": len(chosen), "tsne_classes": classes}
    top1 = 100 * float((answers[0].logits.argmax(axis=1) == labels).mean())
    content = {"format": 1, **settings, "teacher": described(teacher) | {"top1": top1}, "students": records}
    write_json(arguments.out / "analysis.json", content)
    table = pd.DataFrame(records).set_index("name")[list(SHOWN)].rename(columns=SHOWN)
    print(f"teacher {teacher.name} ({teacher.arch}): top-1 {top1:.2f}\n")
    print(table.to_markdown(floatfmt=("", ".2f", ".4f", ".4f", ".4f", ".4f")))


def described(subject: Subject) -> dict:
    return {"name": subject.name, "path": str(subject.path), "model": subject.arch, "sha256": subject.sha256}


@guard
def main(argv: list[str] | None = None) -> int:
    arguments = parse(argv)
    check(arguments)
    entry = DATASETS.find(arguments.dataset, arguments.data_folder)
    chosen_classes(arguments.classes, entry)
    compute = resolve_compute(arguments.device, arguments.precision, compilation="off", deterministic=True)
    teacher, students = None, []
    if arguments.teacher:
        teacher = load_subject(arguments.teacher, entry, TEACHER, arguments.model_t, arguments.allow_namespace)
        paths = [*([arguments.alone] if arguments.alone else []), *arguments.student]
        students = load_students(paths, entry, arguments.model_s, arguments.allow_namespace)
    curves = find_curves(arguments.runs, arguments.band) if arguments.runs else []
    make_folder(arguments.out)
    with pictures.style():
        for picture in curves:
            report_curves(arguments.out, picture, arguments.band)
        if teacher is not None:
            analyse(arguments, entry, compute, teacher, students)
    print(f"{'' if teacher is None else chr(10)}pictures and their numbers are in {arguments.out}")
    return DONE


if __name__ == "__main__":
    sys.exit(main())
