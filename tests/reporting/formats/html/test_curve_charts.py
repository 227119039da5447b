"""Charts of the runs: a line and a band for every method, and a point for its cost."""

from reporting.formats.html.chart import COLOURS, DASHES
from reporting.formats.html.curve_charts import style_numbers
from reporting.tables.build_report import build_report
from tests.reporting.fake_runs import TEACHER, write_metrics, write_run, write_suite
from tests.reporting.formats.html.pages import page_of


def test_curves_have_a_line_a_band_and_a_switch_for_every_method(tmp_path):
    write_suite(tmp_path)
    (tmp_path / "deep/er/kd_1/metrics.jsonl").write_text('rubbish\n{"epoch": 1, "test": {"top1": 40}}\n{"epoch": 2, "t')
    page = page_of(tmp_path)
    switched = [attrs["data-line"] for attrs, _ in page.of("input")]
    lines = {attrs["id"]: text.strip() for attrs, text in page.of("g") if "id" in attrs}
    assert switched == list(lines)
    assert [told.splitlines()[0] for told in lines.values()] == [
        "student alone (3 trials): 55.13 after epoch 2",
        "std (3 trials): 60.53 after epoch 2",
        "crd alpha=1 (1 trial): 59.00 after epoch 2",
        "kd (3 trials): 58.65 after epoch 2",  # of the two that have it
    ]
    assert len(page.of("polygon")) == 3  # bands of several trials only
    (teacher,) = (text for attrs, text in page.of("text") if attrs.get("class") == "named")
    assert teacher == "teacher 72.63"


def test_what_others_are_compared_with_has_a_style_of_its_own(tmp_path):
    """However many methods there are, and whatever they are called."""
    for method in ("none", "kd", *(f"a{number:02}" for number in range(45))):
        write_run(tmp_path, method, 60.0, method=method)
    styles = style_numbers(build_report([str(tmp_path)]).table)
    assert (styles["student alone"], styles["kd"]) == (0, 1)
    others = [number for label, number in styles.items() if label not in ("student alone", "kd")]
    assert (len(others), set(others)) == (45, set(range(2, COLOURS * DASHES)))
    assert [styles["a00"], styles["a01"]] == [2, 3]


def test_costs_are_points_with_names(tmp_path):
    write_suite(tmp_path)
    told = [text for _, text in page_of(tmp_path).of("desc") if text.startswith("Test accuracy against")]
    assert len(told) == 1
    assert "std: 60.53 ± 0.59 % at 2.00 seconds per epoch" in told[0]


def test_costs_of_different_hardware_share_no_chart_and_no_table(tmp_path):
    machines = {"none": 1, "kd": 1, "std": 2, "crd": 2}
    for method, threads in machines.items():
        environment = {"device": "cpu", "processor": "Some; CPU", "threads": threads}
        for trial in (1, 2):
            write_run(tmp_path, f"{method}{trial}", 60.0, method=method, trial=trial, environment=environment)
    write_run(tmp_path, "kd3", 60.0, trial=3, environment={"device": "Some GPU"})
    page = page_of(tmp_path)
    told = [text for _, text in page.of("desc") if text.startswith("Test accuracy against")]
    assert [sum(f"{method}:" in text for method in ("student alone", "kd", "std", "crd")) for text in told] == [1, 2]
    tables = [text for _, text in page.of("caption") if ": cost" in text]
    assert ["1 thread" in text for text in tables] == [True, False]
    assert ["2 threads" in text for text in tables] == [False, True]
    assert any("no cost is given of: kd" in text for _, text in page.of("p"))


def test_runs_of_one_epoch_have_a_point_for_each_trial_and_no_lines(tmp_path):
    recipe = {"name": "deit", "epochs": 1, "batch_size": 128}
    for trial in (1, 2):
        at = {"epoch": 1, "top1": 30.0 + trial}
        for method in ("none", "kd", "std"):
            files = {"recipe": recipe, "result": {"last": at, "best": at}}
            folder = write_run(tmp_path, f"{method}{trial}", at["top1"], method=method, trial=trial, **files)
            write_metrics(folder, [{"epoch": 1, "test": {"top1": at["top1"]}}])
    page = page_of(tmp_path)
    assert not page.of("polyline")
    assert len([attrs for attrs, _ in page.of("circle") if attrs["r"] == "4"]) == 6
    assert any("72.63" in text for _, text in page.of("p"))  # the teacher would squeeze them


def test_of_many_methods_the_best_and_the_references_are_shown_first(tmp_path):
    for method, last in {"none": 50.0, "kd": 51.0, **{f"m{number}": 52.0 + number for number in range(9)}}.items():
        write_run(tmp_path, method, last, method=method)
    page = page_of(tmp_path)
    labels = [text.split(" (")[0].strip() for attrs, text in page.of("g") if "id" in attrs]
    on = ["checked" in attrs for attrs, _ in page.of("input")]
    shown = {label for label, checked in zip(labels, on, strict=True) if checked}
    assert shown == {"student alone", "kd", "m4", "m5", "m6", "m7", "m8"}
    hidden = [text.split(" (")[0].strip() for attrs, text in page.of("g") if "off" in attrs["class"].split()]
    assert sorted(hidden) == ["m0", "m1", "m2", "m3"]


def test_a_teacher_of_another_pair_is_no_line_of_this_one(tmp_path):
    write_run(tmp_path, "a", 60.0, 70.0)
    write_run(tmp_path, "b", 61.0, 71.0, teachers=[{**TEACHER, "model": "vgg13", "sha256": "cc", "top1": 74.5}])
    named = [text for attrs, text in page_of(tmp_path).of("text") if attrs.get("class") == "named"]
    assert named == ["teacher 72.63", "teacher 74.50"]
