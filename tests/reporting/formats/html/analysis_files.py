"""A folder as scripts/analyse.py leaves it."""

import json


def write_analysis(folder, names=("std",), classes=3, class_names=()):
    """As scripts/analyse.py leaves it, with the pictures of confusion only; without names as earlier versions did."""
    students = [{"name": name, "model": "mixer_nano", "top1": 61.5, "agreement": 0.5} for name in names]
    teacher = {"name": "teacher", "model": "resnet56", "top1": 72.63}
    content = {"format": 1, "dataset": "cifar100", "test_images": 30, "teacher": teacher, "students": students}
    content |= {"classes": class_names} if class_names else {}
    folder.mkdir(parents=True)
    (folder / "analysis.json").write_text(json.dumps(content))
    for name in names:
        (folder / name).mkdir()
        lines = [f"{c},10,{70 + c}.0,{60 + 5 * c}.0,{4 * c - 10}.0,50.0,{10 + 5 * c}.0" for c in range(classes)]
        head = "class,images,teacher,student,gain_over_teacher,alone,gain_over_alone"
        (folder / name / "classes.csv").write_text("\n".join([head, *lines]) + "\n")
        counts = [[6, 4, 0], [1, 7, 2], [0, 3, 7]]
        cells = [f"{r},{c},{int(r == c) * 10},{counts[r][c]},0" for r in range(3) for c in range(3)]
        (folder / name / "confusion.csv").write_text(
            "\n".join(["row,column,teacher,student,student_by_teacher", *cells])
        )
        (folder / name / "confusion.svg").write_text("<svg xmlns='http://www.w3.org/2000/svg'/>")
    return folder


def write_mistakes(folder, picture="mistakes/01.png", content=b"a picture"):
    """The surest mistake of a network, beside its other files."""
    (folder / "mistakes").mkdir(parents=True)
    (folder / "mistakes/01.png").write_bytes(content)
    head = "rank,image,true,predicted,probability,of_true,picture,file"
    (folder / "mistakes.csv").write_text(f"{head}\n1,7,0,2,0.987,0.01,{picture},val/x/1.jpg\n")
