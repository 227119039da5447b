"""Who won on each pair, by how much and how surely, in a sentence: its figures and names."""

import math
import re

import numpy as np
import pytest
from scipy import stats

from reporting.formats.html.verdict import verdicts
from reporting.tables.build_report import build_report
from reporting.tables.numbers import MINUS
from reporting.tables.statistics import TOO_FEW, average_relative_improvement, gap_recovered
from tests.helpers import ROOT
from tests.reporting.fake_runs import write_run, write_suite


def verdicts_of(root):
    return list(verdicts(build_report([str(root)]).table))


def figures_of(verdict):
    """All numbers of a sentence, in order."""
    numbers = re.findall(rf"[+{MINUS}]?\d+\.\d+", f"{verdict.winner}: {verdict.text}")
    return [float(number.replace(MINUS, "-")) for number in numbers]


def test_the_measured_runs():
    (verdict,) = verdicts_of(ROOT / "results/std_ablation")
    assert verdict.winner.startswith("std std_modules=last+intermediate")
    assert figures_of(verdict) == [30.68, 0.41, 1.91, 0.489, -1.62, 5.43, 0.77, 0.671, -1.15, 2.69]
    assert verdict.text.count("not significant") == 2
    assert verdict.tested
    (verdict,) = verdicts_of(ROOT / "results/cifar100_short")
    assert verdict.winner.startswith("kd ")
    assert figures_of(verdict) == [36.76, 3.89, 5.35]
    assert TOO_FEW in verdict.text
    assert not verdict.tested


def test_p_is_corrected_for_what_the_winner_was_picked_from(tmp_path):
    lasts = write_suite(tmp_path)
    (verdict,) = verdicts_of(tmp_path)
    of_std, of_kd = (stats.ttest_ind(lasts[name], lasts["none"], equal_var=False).pvalue for name in ("std", "kd"))
    p = 3 * of_std if of_std < of_kd else max(3 * of_kd, 2 * of_std)  # Holm's, of std, kd and crd
    assert 0.001 < p < 0.05
    assert verdict.winner.startswith("std ")
    assert figures_of(verdict)[:4] == [60.53, 0.59, 5.4, round(p, 3)]
    assert "not significant" not in verdict.text
    over_alone, over_next = verdict.text.split("; ")
    assert TOO_FEW not in over_alone
    assert "crd alpha=1" in over_next
    assert TOO_FEW in over_next


def test_a_difference_within_the_noise_is_not_significant(tmp_path):
    for trial, (alone, kd) in enumerate([(50.0, 50.5), (52.0, 51.9), (51.0, 51.5)], 1):
        write_run(tmp_path, f"none{trial}", alone, method="none", trial=trial)
        write_run(tmp_path, f"kd{trial}", kd, trial=trial)
    (verdict,) = verdicts_of(tmp_path)
    assert figures_of(verdict)[2:4] == [0.3, 0.697]
    assert "not significant" in verdict.text


def test_methods_below_the_student_alone(tmp_path):
    write_run(tmp_path, "none", 60.0, method="none")
    write_run(tmp_path, "kd", 59.0)
    (verdict,) = verdicts_of(tmp_path)
    assert verdict.winner.startswith("No method")
    assert figures_of(verdict) == [59.0, -1.0]


@pytest.mark.parametrize(("alone", "gain"), [(None, []), (66.0, [-5.0])])
def test_winners_that_share_the_best_mean(tmp_path, alone, gain):
    for method in ("kd", "std"):
        write_run(tmp_path, method, 61.0, method=method)
    if alone:
        write_run(tmp_path, "none", alone, method="none")
    (verdict,) = verdicts_of(tmp_path)
    assert verdict.winner.startswith("kd and std")
    assert figures_of(verdict) == [61.0, *gain]
    assert ("below" in verdict.text) == bool(alone)


def test_over_several_pairs_the_average_rank_has_a_sentence(tmp_path):
    for model in ("mixer_nano", "resnet20"):
        for method, last in (("kd", 60.0), ("std", 61.0)):
            write_run(tmp_path, model + method, last, method=method, model=model)
    *_, verdict = verdicts_of(tmp_path)
    assert "all pairs" in verdict.where
    assert verdict.winner == "std 1.00"
    assert figures_of(verdict) == [1.0, 2.0]


ALIKE = [93.04, 86.48, 87.56], [92.2, 87.32, 87.56]  # means of 89.026…, 3e-14 apart


def test_figures_that_print_alike_are_equal(tmp_path):
    alone, kd = ALIKE
    low, high = sorted(map(np.mean, ALIKE))
    assert low < high
    assert f"{low:.2f}" == f"{high:.2f}"
    assert math.isnan(gap_recovered(90.0, low, high))
    assert math.isnan(average_relative_improvement([90.0], [high], [low]))
    for trial, (one, other) in enumerate(zip(alone, kd, strict=True), 1):
        write_run(tmp_path, f"none{trial}", one, method="none", trial=trial)
        write_run(tmp_path, f"kd{trial}", other, trial=trial)
    (verdict,) = verdicts_of(tmp_path)
    assert "below" not in verdict.text
    assert not verdict.winner.startswith("No method")
