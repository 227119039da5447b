"""Charts of the runs: a line and a band for every method, and a point for its cost."""

from reporting.formats.html.chart import COLOURS, DASHES
from reporting.formats.html.curve_charts import style_numbers
from reporting.tables.build_report import build_report
from tests.reporting.fake_runs import TEACHER, write_run, write_suite
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
    assert len(told) == 2
    assert "std: 60.53 % at 2.00 seconds per epoch" in told[0]
    assert "student alone: 55.13 % at 10,000 images per second" in told[1]


def test_a_teacher_of_another_pair_is_no_line_of_this_one(tmp_path):
    write_run(tmp_path, "a", 60.0)
    write_run(tmp_path, "b", 61.0, teachers=[{**TEACHER, "model": "vgg13", "sha256": "cc", "top1": 74.5}])
    named = [text for attrs, text in page_of(tmp_path).of("text") if attrs.get("class") == "named"]
    assert named == ["teacher 72.63", "teacher 74.50"]
