"""Networks trained alone. Frozen ones are in tests/scripts/test_transfer_student.py, with runs of their own."""

import numpy as np

from tests.reporting.fake_runs import build, row_of, tables_of, write_run


def test_networks_trained_alone_have_their_own_table(tmp_path):
    for trial, last in enumerate([72.0, 73.0], 1):
        write_run(tmp_path, f"t{trial}", last, kind="teacher", model="resnet56", teachers=[], trial=trial)
    write_run(tmp_path, "small", 50.0, kind="teacher", model="mixer_nano", teachers=[])
    write_run(tmp_path, "kd", 60.0)
    report = build(tmp_path)
    assert row_of(report.table, "", student="resnet56").last_mean == 72.5
    assert np.isnan(row_of(report.table, "kd").gain)
    tables = tables_of(report)
    assert list(tables)[-1] == "networks trained alone"
    cells = tables["networks trained alone"].cells.set_index("model")
    assert list(cells.index) == ["mixer_nano", "resnet56"]
    assert list(cells.loc["resnet56"])[:3] == ["72.50 ± 0.71 (2)", "72.50", "1,140,000"]


def test_balanced_accuracy_of_networks_with_uneven_classes(tmp_path):
    last = {"epoch": 2, "top1": 60.0, "loss": 1.0, "balanced": 45.5}
    write_run(tmp_path, "a", kind="teacher", teachers=[], result={"last": last}, test_class_images=[90, 10])
    assert list(tables_of(build(tmp_path))["networks trained alone"].cells.balanced) == ["45.50"]


def test_protocols_that_read_alike_have_their_id(tmp_path):
    for protocol_id in ("p1", "p2"):
        write_run(tmp_path, protocol_id, kind="teacher", teachers=[], protocol_id=protocol_id)
    cells = tables_of(build(tmp_path))["networks trained alone"].cells
    assert [text.rsplit(" ", 1)[1] for text in cells.protocol] == ["[p1]", "[p2]"]
