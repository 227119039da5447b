"""Runs that make large tables."""

from tests.reporting.fake_runs import write_run


def write_many_pairs(root):
    for student in ("resnet20", "resnet8x4", "MobileNetV2", "ShuffleV1", "vgg8", "wrn_16_2", "wrn_40_1", "resnet32"):
        for method in ("kd", "crd", "std"):
            for trial in (1, 2):
                top1 = 60.0 + len(student) + len(method) + trial / 10
                write_run(root, f"{student}{method}{trial}", top1, method=method, model=student, trial=trial)


def write_many_methods(root, count):
    for number in range(count):
        write_run(root, f"many{number}", 50.0 + number / 10, method="std", label=f"std opt={number}", model="vgg13")
