"""The base of all methods: what its losses are given, and what it asks of a subclass."""

import pytest
import torch

from common.errors import UndeclaredFieldError
from distiller_zoo import Method, Pair
from distiller_zoo.predictions import standardised
from distiller_zoo.teacher_mixture import MANY, mixture
from tests.distiller_zoo.cases import CNN, WIDE, batch_of, features

STUDENT, TEACHERS = features(CNN, 1), (features(WIDE, 2), features(WIDE, 3))


class Gap(Method):
    """Half the sum of squares between the logits."""

    name = "gap"

    def loss(self, student, teacher, batch):
        return (student.logits - teacher.logits).square().sum() / 2


class Several(Gap):
    max_teachers = 2

    def losses(self, student, teachers, batch):
        return {str(i): self.loss(student, teacher, batch) for i, teacher in enumerate(teachers)}


def pair(count=1):
    return Pair(CNN, (WIDE,) * count, 50)


def test_one_loss_goes_by_the_methods_name():
    found = Gap(pair()).own_losses(STUDENT, TEACHERS[:1], batch_of())
    assert list(found) == ["gap"]
    torch.testing.assert_close(found["gap"], (STUDENT.logits - TEACHERS[0].logits).square().sum() / 2)


@pytest.mark.parametrize("weighting", ["average", "confidence"])
def test_several_teachers_are_their_mixture_to_a_method_of_one(weighting):
    method = Gap(pair(2))
    method.teacher_weighting = weighting
    mixed = mixture(TEACHERS, weighting).logits
    found = method.own_losses(STUDENT, TEACHERS, batch_of())["gap"]
    torch.testing.assert_close(found, (STUDENT.logits - mixed).square().sum() / 2)
    assert len(Several(pair(2)).own_losses(STUDENT, TEACHERS, batch_of())) == 2


@pytest.mark.parametrize("itself", [False, True])
def test_standardised_logits_unless_it_standardises_itself(itself, monkeypatch):
    monkeypatch.setattr(Gap, "standardises_itself", itself)
    method = Gap(pair())
    assert method.standardise(STUDENT.logits) is STUDENT.logits
    method.logit_standardization = True
    torch.testing.assert_close(method.standardise(STUDENT.logits), standardised(STUDENT.logits))
    s, t = STUDENT.logits, TEACHERS[0].logits
    expected = (s - t if itself else standardised(s) - standardised(t)).square().sum() / 2
    torch.testing.assert_close(method.own_losses(STUDENT, TEACHERS[:1], batch_of())["gap"], expected)


def test_logits_of_a_teacher_that_it_does_not_read_are_guarded_and_not_standardised(monkeypatch):
    monkeypatch.setattr(Gap, "reads_teacher_logits", False)
    method = Gap(pair())
    method.logit_standardization = True
    with pytest.raises(UndeclaredFieldError):
        method.own_losses(STUDENT, TEACHERS[:1], batch_of())
    student, _ = method.loss_inputs(STUDENT, TEACHERS[:1])
    torch.testing.assert_close(student.logits, standardised(STUDENT.logits))
    assert Gap.most_teachers() == 1  # there are no predictions to mix


def test_how_many_teachers_it_takes():
    class Reading(Gap):
        needs = ("embedding",)

    class OfStudent(Gap):
        student_needs = ("stages",)

    assert (Gap.most_teachers(), Reading.most_teachers(), OfStudent.most_teachers()) == (MANY, 1, MANY)
    assert Several.most_teachers() == 2
    assert (OfStudent.reads_of_student(), OfStudent.reads_of_teacher()) == (("stages",), ())


def test_the_total_is_the_sum_and_zero_without_losses():
    method = Gap(pair())
    assert method.total({"a": torch.tensor(1.0), "b": torch.tensor(2.5)}, torch.tensor(9.0)) == 3.5
    assert method.total({}, torch.tensor(9.0)) == 0


def test_without_an_override_nothing_is_changed():
    method = Gap(pair())
    assert method.attach(STUDENT) is STUDENT
    assert method.predict(STUDENT) is STUDENT.logits
    assert method.predictions_by_head(STUDENT) == method.extra_metrics() == {}


def test_a_method_without_a_loss_says_so():
    class Empty(Method):
        name = "empty"

    with pytest.raises(NotImplementedError, match="Empty"):
        Empty(pair()).losses(STUDENT, TEACHERS[:1], batch_of())
    with pytest.raises(NotImplementedError, match="Empty"):
        Empty(pair()).initial_losses(STUDENT, TEACHERS[:1], batch_of())
