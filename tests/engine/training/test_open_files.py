"""Many runs and the system's limit on open files."""

import pytest

from common.errors import RequestError
from engine.training import open_files
from engine.training.open_files import PER_RUN, SPARE, room_for_files
from tests.engine.training.few import TWO_STEPS, train_few

resource = pytest.importorskip("resource")


@pytest.fixture
def limits(monkeypatch):
    """Limits of a system whose soft one is 100 and whose hard one is 1000, with 10 files in use."""
    now = [100, 1000]
    monkeypatch.setattr(open_files, "files_in_use", lambda: 10)
    monkeypatch.setattr(resource, "getrlimit", lambda kind: tuple(now))

    def set_limits(kind, values):
        if values[0] > values[1]:
            raise ValueError("current limit exceeds maximum limit")
        now[:] = values

    monkeypatch.setattr(resource, "setrlimit", set_limits)
    return now


@pytest.mark.parametrize(("runs", "soft"), [(1, 100), (20, 100), (100, 10 + SPARE + 100 * PER_RUN), (470, 1000)])
def test_the_limit_is_raised_as_far_as_needed(runs, soft, limits):
    with room_for_files(runs):
        assert limits == [soft, 1000]
    assert limits == [100, 1000]


@pytest.mark.parametrize("runs", [471, 10_000])
def test_what_the_system_does_not_allow_is_refused_with_numbers(runs, limits):
    with pytest.raises(RequestError, match=rf"{runs} runs.* 1000; .* 470 runs"), room_for_files(runs):
        pass
    assert limits == [100, 1000]


@pytest.mark.runs
def test_more_runs_than_files(tmp_path):
    """With the system's own limits; the refusal comes before any folder is made."""
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    trials = [str(number) for number in range(1, 9)]
    in_use = open_files.files_in_use()
    resource.setrlimit(resource.RLIMIT_NOFILE, (in_use + SPARE, before[1]))
    try:
        assert train_few("none", output=tmp_path, small=TWO_STEPS, extra=["--trial", *trials]) == 0
        assert resource.getrlimit(resource.RLIMIT_NOFILE) == (in_use + SPARE, before[1])
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, before)
    assert len(list(tmp_path.rglob("result.json"))) == len(trials)
