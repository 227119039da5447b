"""A mistake in a method's constructor is reported with its line, and is no refusal."""

import pytest

import train_student
from distiller_zoo import METHODS, Method, register_method
from tests.helpers import ROOT, SMALL, folders_of

BROKEN = """
class Broken(Method):
    def __init__(self, pair):
        super().__init__(pair)
        self.width = pair.student.stages[99][0]
"""


@pytest.mark.parametrize("method", ["broken", "broken+kd"])
def test_a_mistake_in_a_constructor_is_reported_with_its_line(method, teacher, tmp_path, capsys):
    space = {"Method": Method, "__name__": "distiller_zoo.broken"}
    exec(compile(BROKEN, ROOT / "distiller_zoo" / "broken.py", "exec"), space)
    argv = ["--distill", method, "--model_s", "resnet8", "--path_t", str(teacher), *SMALL, "--skip_refused"]
    with METHODS.temporarily():
        register_method("broken")(space["Broken"])
        assert train_student.main([*argv, "--output", str(tmp_path)]) == 1
    first, second = capsys.readouterr().err.splitlines()
    for word in (method, "IndexError", "distiller_zoo/broken.py:5"):
        assert word in first
    assert "16×8×8, 32×4×4, 64×2×2" in second  # the stages' shapes
    assert folders_of(tmp_path) == []
