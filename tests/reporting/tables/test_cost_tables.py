"""Tables of costs: sizes and latencies beside what training cost, where they are on record."""

from tests.reporting.fake_runs import build, tables_of, write_latency, write_run

SIZES = {"parameters": 1_140_000, "macs": 12_300_000, "file_bytes": 4_560_000}
COST = "resnet56 → mixer_nano: cost"


def test_older_records_have_the_columns_that_they_had(tmp_path):
    write_run(tmp_path, "a")
    assert tables_of(build(tmp_path))[COST].names == ["method", "s/epoch", "images/s", "peak MiB", "extra parameters"]


def test_sizes_and_latency_stand_beside_them(tmp_path):
    write_latency(write_run(tmp_path, "a", result=SIZES), 1.0, 4.0, processor="One CPU")
    write_run(tmp_path, "old", method="std")
    table = tables_of(build(tmp_path))[COST]
    names = ["parameters", "MACs (M)", "file (MB)", "latency ×teacher"]
    assert table.names[5:] == names
    rows = {row[0]: row[5:] for row in table.cells.to_numpy().tolist()}
    assert rows == {"kd": ["1,140,000", "12.3", "4.56", "0.25"], "std": ["1,140,000", "", "", ""]}
    assert "One CPU, 1 thread" in table.note


def test_a_network_trained_alone_has_its_size(tmp_path):
    write_run(tmp_path, "a", kind="teacher", method="none", teachers=[], result=SIZES)
    cells = tables_of(build(tmp_path))["networks trained alone"].cells
    assert list(cells["MACs (M)"]) == ["12.3"]
    assert list(cells["file (MB)"]) == ["4.56"]


def test_sizes_that_are_no_counts_are_not_shown(tmp_path):
    """The rest of the record counts."""
    for number, broken in enumerate((-1, 1.5, "many", True, None, 2**60)):
        write_run(tmp_path, f"{number}", trial=number, result={"macs": broken, "file_bytes": broken})
    report = build(tmp_path)
    (row,) = report.table[report.table.role == "method"].itertuples()
    assert row.n == 6
    assert tables_of(report)[COST].names[-1] == "extra parameters"
