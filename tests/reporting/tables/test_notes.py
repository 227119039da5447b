"""Notes on runs that share a table without being quite on equal terms."""

from tests.reporting.fake_runs import TEACHER, build, row_of, write_run


def test_methods_of_different_teacher_checkpoints(tmp_path):
    write_run(tmp_path, "kd")
    write_run(tmp_path, "std", method="std", teachers=[{**TEACHER, "sha256": "bb"}])
    (note,) = build(tmp_path).notes
    assert "resnet56 → mixer_nano" in note
    assert "teacher" in note


def test_other_checkpoints_in_the_same_shares_are_equal_terms_and_in_others_not(tmp_path):
    def write(method, *hashes):
        for trial, sha256 in enumerate(hashes, 1):
            taught = [{**TEACHER, "sha256": sha256}]
            write_run(tmp_path, f"{method}{trial}", 60.0 + trial, method=method, trial=trial, teachers=taught)

    write("kd", "A", "B")
    write("crd", "B", "A")
    assert build(tmp_path).notes == []
    write("std", "A", "A", "B")
    assert len(build(tmp_path).notes) == 1


def test_data_that_differs(tmp_path):
    for name, method in (("a", "kd"), ("b", "std")):
        write_run(tmp_path, name, method=method, data_sha256=name * 64)
    (note,) = build(tmp_path).notes
    assert all(word in note for word in ("cifar100", "aaaaaaaa", "bbbbbbbb", "… in a;", "… in b"))


def test_protocols_of_one_name(tmp_path):
    for name, rate in (("p1", 0.05), ("p2", 0.1)):
        recipe = {"name": "deit", "epochs": 2, "learning_rate": rate, "augmentation": {"mixup": 0.8}}
        write_run(tmp_path, name, 60.0, method="kd", protocol_id=name, recipe=recipe)
    (note,) = build(tmp_path).notes
    assert all(word in note for word in ("p1", "p2", "learning_rate 0.05, 0.1"))
    assert "mixup" not in note


def test_costs_of_different_machines(tmp_path):
    write_run(tmp_path, "a", environment={"device": "cpu", "processor": "CPU", "threads": 2})
    write_run(tmp_path, "b", trial=2, environment={"device": "GPU of a kind"})
    write_run(tmp_path, "c", trial=3, environment=["rubbish"])
    (note,) = build(tmp_path).notes
    assert "CPU, 2 threads; GPU of a kind" in note


def test_a_result_without_its_metrics(tmp_path):
    (write_run(tmp_path, "a") / "metrics.jsonl").unlink()
    report = build(tmp_path)
    (note,) = report.notes
    assert note.startswith("a: ")
    assert "metrics.jsonl" in note
    assert row_of(report.table, "kd").n == 1


def test_other_rounding_and_images_left_out_are_noted(tmp_path):
    write_run(tmp_path, "a", environment={"device": "cpu", "torch": "2.11.0", "processes": 1})
    assert build(tmp_path).notes == []
    write_run(tmp_path, "b", trial=2, environment={"device": "cpu", "torch": "2.12.0"}, left_out={"x.jpg": "cut"})
    notes = build(tmp_path).notes
    assert any("torch" in note and "2.11.0, 2.12.0" in note for note in notes)
    assert any("1 image" in note and note.startswith("b: ") for note in notes)
    assert len(notes) == 2
