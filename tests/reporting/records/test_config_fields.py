"""Fields of config.json by dotted path."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from common.errors import RequestError
from reporting.records.config_fields import check_key, values_at
from reporting.records.query import Condition
from reporting.records.runs import read_runs
from tests.reporting.fake_runs import write_run

plain = st.none() | st.booleans() | st.integers(-(10**20), 10**20) | st.floats(allow_nan=False, allow_infinity=False)


@given(plain | st.text("abc_-.", min_size=1))
def test_a_value_is_found_by_what_the_file_shows(value):
    config = json.loads(json.dumps({"outer": [{"inner": value}, {"inner": "other"}, "no object"]}))
    shown = value if isinstance(value, str) else json.dumps(value)
    assert values_at(config, "outer.inner") == [value, "other"]
    assert Condition.parse(f"outer.inner={shown}").holds(config)
    assert not Condition.parse("outer.inner=something else").holds(config)
    assert not Condition.parse(f"outer.missing={shown}").holds(config)


@pytest.mark.parametrize(
    ("key", "suggested"),
    [
        ("methd", "method"),
        ("std_modules", "options.std_modules"),
        ("recipe.epoch", "recipe.epochs"),
        ("zzzzzz", "model_s"),
        ("code.distiller_zoo/kd.py", ""),  # a dotted path cannot name a file
    ],
)
def test_an_unknown_field_is_refused_with_fields_like_it(tmp_path, key, suggested):
    write_run(tmp_path, "a", options={"std_modules": "last"}, code={"distiller_zoo/kd.py": "b"})
    runs, _ = read_runs([tmp_path])
    with pytest.raises(RequestError) as raised:
        check_key(runs, key, "--by")
    assert f"--by {key}" in str(raised.value)
    assert suggested in str(raised.value)
