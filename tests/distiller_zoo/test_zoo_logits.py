"""Methods on predictions: each loss against its formula by plain loops, its gradient, known values, odd inputs."""

import itertools
import math

import numpy as np
import pytest
import torch
from scipy import stats

from common.errors import RequestError
from dataset import DATASETS, Augmentation, Batch, Batching, BatchStream
from distiller_zoo import METHODS, Pair, Weights, create_method, options_of
from distiller_zoo.ctkd import adversary_strength, reversed_gradient
from distiller_zoo.dist import inter_loss, intra_loss
from distiller_zoo.dkd import nckd_of_each, tckd_of_each
from distiller_zoo.kd import kd_loss
from distiller_zoo.mlkd import TEMPERATURES, batch_loss, class_loss, published_losses, share_up_to_median
from distiller_zoo.nkd import others_loss, target_loss
from distiller_zoo.normkd import normkd_loss
from distiller_zoo.predictions import class_against_rest, kl_of_each, other_classes, warm_up
from distiller_zoo.rld import confidence_loss, masked_correlation_loss
from distiller_zoo.ttm import transformed_kl_of_each
from distiller_zoo.wsld import soft_label_weights, weighted_soft_loss
from distiller_zoo.wttm import power_sum, wttm_loss
from models import Features, FeatureShapes
from tests.numerics import every_dtype

every_shape = pytest.mark.parametrize("shape", [(1, 2), (4, 3), (7, 10), (5, 33)])


def normal(*shape, seed=0, dtype=torch.float64, scale=3.0):
    """Random numbers; the same in every precision."""
    drawn = torch.randn(shape, generator=torch.Generator().manual_seed(seed))
    return scale * drawn.to(dtype)


def labels_for(shape):
    return torch.randint(shape[1], (shape[0],), generator=torch.Generator().manual_seed(5))


def assert_near(found, expected):
    tolerance = 1e-8 if found.dtype == torch.float64 else 2e-4
    np.testing.assert_allclose(found.detach().double().numpy(), expected, rtol=tolerance, atol=tolerance / 10)


# --- the formulas in loops ------------------------------------------------------------------------


def softmax(row):
    powers = [math.exp(value - max(row)) for value in row]
    return [power / math.fsum(powers) for power in powers]


def divergence(p_t, p_s):
    return math.fsum(t * math.log(t / s) for t, s in zip(p_t, p_s, strict=True))


def mean(values):
    return math.fsum(values) / len(values)


def rows_of(*tensors):
    return list(zip(*(tensor.double().tolist() for tensor in tensors), strict=True))


def binary(row, label, temperature):
    p = softmax([value / temperature for value in row])
    return [p[label], math.fsum(value for k, value in enumerate(p) if k != label)]


def others(row, label, temperature):
    return softmax([value / temperature for k, value in enumerate(row) if k != label])


def naive_tckd(s, t, label, temperature):
    return temperature**2 * divergence(binary(t, label, temperature), binary(s, label, temperature))


def naive_nckd(s, t, label, temperature):
    return temperature**2 * divergence(others(t, label, temperature), others(s, label, temperature))


def naive_dkd(logits_s, logits_t, labels, alpha, beta, temperature):
    each = [
        alpha * naive_tckd(s, t, y, temperature) + beta * naive_nckd(s, t, y, temperature)
        for (s, t), y in zip(rows_of(logits_s, logits_t), labels.tolist(), strict=True)
    ]
    return mean(each)


def naive_nkd(logits_s, logits_t, labels, gamma, temperature):
    total = []
    for (s, t), y in zip(rows_of(logits_s, logits_t), labels.tolist(), strict=True):
        loss = -softmax(t)[y] * math.log(softmax(s)[y])
        for q_t, q_s in zip(others(t, y, temperature), others(s, y, temperature), strict=True):
            loss -= gamma * temperature**2 * q_t * math.log(q_s)
        total.append(loss)
    return mean(total)


def naive_correlation(a, b):
    a, b = [value - mean(a) for value in a], [value - mean(b) for value in b]
    length = math.sqrt(math.fsum(value**2 for value in a)) * math.sqrt(math.fsum(value**2 for value in b))
    return math.fsum(x * y for x, y in zip(a, b, strict=True)) / (length + 1e-8)


def naive_dist(logits_s, logits_t, temperature):
    p_s, p_t = (np.array([softmax(row) for row in (logits / temperature).tolist()]) for logits in (logits_s, logits_t))
    inter = 1 - mean([naive_correlation(a, b) for a, b in zip(p_s, p_t, strict=True)])
    intra = 1 - mean([naive_correlation(a, b) for a, b in zip(p_s.T, p_t.T, strict=True)])
    return temperature**2 * inter, temperature**2 * intra


def naive_ttm(logits_s, logits_t, power, weighted):
    total = []
    for s, t in rows_of(logits_s, logits_t):
        powers = [p**power for p in softmax(t)]
        norm = math.fsum(powers)
        kl = divergence([p / norm for p in powers], softmax(s))
        total.append(norm * kl if weighted else kl)
    return mean(total)


def naive_wsld(logits_s, logits_t, labels, temperature):
    total = []
    for (s, t), y in zip(rows_of(logits_s, logits_t), labels.tolist(), strict=True):
        ce_s, ce_t = -math.log(softmax(s)[y]), -math.log(softmax(t)[y])
        weight = 1 - math.exp(-ce_s / (ce_t + 1e-7))
        p_s, p_t = softmax([v / temperature for v in s]), softmax([v / temperature for v in t])
        total.append(-weight * temperature**2 * sum(a * math.log(b) for a, b in zip(p_t, p_s, strict=True)))
    return mean(total)


def naive_kd(logits_s, logits_t, temperature):
    each = [
        divergence(softmax([v / temperature for v in t]), softmax([v / temperature for v in s]))
        for s, t in rows_of(logits_s, logits_t)
    ]
    return temperature**2 * mean(each)


def naive_gram_losses(logits_s, logits_t, temperature):
    """The batch level and the class level."""
    p_s, p_t = ([softmax(row) for row in (logits / temperature).tolist()] for logits in (logits_s, logits_t))
    size, classes = len(p_s), len(p_s[0])
    of_batch = of_classes = 0.0
    for i in range(size):
        for j in range(size):
            gap = sum(p_t[i][k] * p_t[j][k] - p_s[i][k] * p_s[j][k] for k in range(classes))
            of_batch += gap**2 / size
    for k in range(classes):
        for m in range(classes):
            gap = sum(p_t[i][k] * p_t[i][m] - p_s[i][k] * p_s[i][m] for i in range(size))
            of_classes += gap**2 / classes
    return of_batch, of_classes


def z_scored(logits):
    """Each row with mean 0 and standard deviation 1, by NumPy."""
    rows = [(row - row.mean()) / (row.std(ddof=1) + 1e-7) for row in logits.double().numpy()]
    return torch.from_numpy(np.stack(rows))


def naive_mlkd(weak, strong, of_instances=lambda logits: logits):
    """`of_instances` is what the logits of the instance level go through first."""
    weak_scored, strong_scored = ([of_instances(logits) for logits in view] for view in (weak, strong))
    p = np.array([softmax(row) for row in weak[1].tolist()])
    share = lambda values: np.mean(values <= np.percentile(values, 50))  # noqa: E731
    samples, classes = share(p.max(axis=1)), share(p.sum(axis=0))
    levels = {"mlkd_instance": 0.0, "mlkd_batch": 0.0, "mlkd_class": 0.0}
    for temperature in (4.0, 3.0, 5.0, 2.0, 6.0):
        levels["mlkd_instance"] += samples * naive_kd(*weak_scored, temperature)
        other = strong_scored if temperature in (3, 4, 5) else weak_scored
        levels["mlkd_instance"] += naive_kd(*other, temperature)
        of_batch, of_classes = naive_gram_losses(*weak, temperature)
        levels["mlkd_batch"] += samples * of_batch
        levels["mlkd_class"] += classes * of_classes
    return levels


def naive_rld(logits_s, logits_t, labels, temperature):
    confidence, correlation = [], []
    for (s, t), y in zip(rows_of(logits_s, logits_t), labels.tolist(), strict=True):
        b_s, b_t = binary(s, y, temperature), binary(t, t.index(max(t)), temperature)
        confidence.append(temperature**2 * divergence(b_t, b_s))
        below = [k for k, value in enumerate(t) if value < t[y]]
        q_s, q_t = (softmax([row[k] / temperature for k in below]) if below else [] for row in (s, t))
        correlation.append(temperature**2 * divergence(q_t, q_s))
    return mean(confidence), mean(correlation)


def naive_normkd(logits_s, logits_t, scale):
    total = []
    for s, t in rows_of(logits_s, logits_t):
        t_s, t_t = scale * np.std(s, ddof=1), scale * np.std(t, ddof=1)
        total.append(t_t**2 * divergence(softmax([v / t_t for v in t]), softmax([v / t_s for v in s])))
    return mean(total)


# --- values ---------------------------------------------------------------------------------------


def pair_of_logits(shape, dtype, teacher_seed=2):
    return normal(*shape, seed=1, dtype=dtype), normal(*shape, seed=teacher_seed, dtype=dtype)


@every_dtype
@every_shape
@pytest.mark.parametrize("temperature", [1.0, 4.0])
def test_dkd(shape, temperature, dtype):
    s, t = pair_of_logits(shape, dtype)
    y = labels_for(shape)
    assert_near(tckd_of_each(s, t, y, temperature).mean(), naive_dkd(s, t, y, 1, 0, temperature))
    assert_near(nckd_of_each(s, t, y, temperature).mean(), naive_dkd(s, t, y, 0, 1, temperature))


@every_dtype
@every_shape
@pytest.mark.parametrize("temperature", [1.0, 3.0])
def test_nkd(shape, temperature, dtype):
    s, t = pair_of_logits(shape, dtype)
    y = labels_for(shape)
    found = target_loss(s, t, y) + 1.5 * others_loss(s, t, y, temperature)
    assert_near(found, naive_nkd(s, t, y, 1.5, temperature))


@every_dtype
@pytest.mark.parametrize("shape", [(4, 3), (7, 10), (5, 33), (1, 4)])
@pytest.mark.parametrize("temperature", [1.0, 4.0])
def test_dist(shape, temperature, dtype):
    s, t = pair_of_logits(shape, dtype)
    found = torch.stack([inter_loss(s, t, temperature), intra_loss(s, t, temperature)])
    assert_near(found, naive_dist(s, t, temperature))


def test_dist_correlates_as_pearson_did():
    s, t = pair_of_logits((6, 9), torch.float64)
    p_s, p_t = s.softmax(dim=1).numpy(), t.softmax(dim=1).numpy()
    inter = mean([stats.pearsonr(a, b)[0] for a, b in zip(p_s, p_t, strict=True)])
    intra = mean([stats.pearsonr(a, b)[0] for a, b in zip(p_s.T, p_t.T, strict=True)])
    found = [inter_loss(s, t, 1.0).item(), intra_loss(s, t, 1.0).item()]
    np.testing.assert_allclose(found, [1 - inter, 1 - intra], rtol=1e-5)  # but for ε


@every_dtype
@every_shape
@pytest.mark.parametrize("power", [0.1, 0.5, 1.0])
def test_ttm_and_wttm(shape, power, dtype):
    s, t = pair_of_logits(shape, dtype)
    assert_near(transformed_kl_of_each(s, t, power).mean(), naive_ttm(s, t, power, weighted=False))
    assert_near(wttm_loss(s, t, power), naive_ttm(s, t, power, weighted=True))


@every_dtype
@every_shape
def test_wsld(shape, dtype):
    s, t = pair_of_logits(shape, dtype)
    y = labels_for(shape)
    assert_near(weighted_soft_loss(s, t, soft_label_weights(s, t, y), 4.0), naive_wsld(s, t, y, 4.0))


@every_dtype
@every_shape
def test_mlkd(shape, dtype):
    weak, strong = pair_of_logits(shape, dtype), (normal(*shape, seed=3, dtype=dtype), normal(*shape, dtype=dtype))
    expected = naive_mlkd(weak, strong)
    for name, found in published_losses(weak, strong).items():
        assert_near(found, expected.pop(name))
    assert expected == {}


@every_dtype
@every_shape
@pytest.mark.parametrize("temperature", [1.0, 4.0])
def test_rld(shape, temperature, dtype):
    s, t = pair_of_logits(shape, dtype)
    y = labels_for(shape)
    expected = naive_rld(s, t, y, temperature)
    found = confidence_loss(s, t, y, temperature), masked_correlation_loss(s, t, y, temperature)
    assert_near(torch.stack(found), expected)


@every_dtype
@every_shape
def test_normkd(shape, dtype):
    s, t = pair_of_logits(shape, dtype)
    assert_near(normkd_loss(s, t, 2.0), naive_normkd(s, t, 2.0))


def test_other_classes_in_order():
    values = torch.arange(12).view(3, 4)
    assert other_classes(values, torch.tensor([0, 2, 3])).tolist() == [[1, 2, 3], [4, 5, 7], [8, 9, 10]]


# --- gradients ------------------------------------------------------------------------------------

LABELS = torch.tensor([0, 3, 2])
WEIGHTS = torch.tensor([0.3, 1.0, 0.6])
GRADIENTS = {
    "tckd": lambda s, t: tckd_of_each(s, t, LABELS, 4.0),
    "nckd": lambda s, t: nckd_of_each(s, t, LABELS, 4.0),
    "nkd_target": lambda s, t: target_loss(s, t, LABELS),
    "nkd_others": lambda s, t: others_loss(s, t, LABELS, 2.0),
    "dist_inter": lambda s, t: inter_loss(s, t, 4.0),
    "dist_intra": lambda s, t: intra_loss(s, t, 4.0),
    "ttm": lambda s, t: transformed_kl_of_each(s, t, 0.1),
    "wttm": lambda s, t: wttm_loss(s, t, 0.2),
    "wsld": lambda s, t: weighted_soft_loss(s, t, WEIGHTS, 4.0),
    "mlkd_batch": lambda s, t: batch_loss(s, t, 2.0),
    "mlkd_class": lambda s, t: class_loss(s, t, 2.0),
    "rld_confidence": lambda s, t: confidence_loss(s, t, LABELS, 4.0),
    "rld_correlation": lambda s, t: masked_correlation_loss(s, t, LABELS, 4.0),
    "normkd": lambda s, t: normkd_loss(s, t, 2.0),
}


@pytest.mark.parametrize("name", GRADIENTS)
def test_gradient(name):
    s, t = (logits.requires_grad_() for logits in pair_of_logits((3, 5), torch.float64))
    assert torch.autograd.gradcheck(GRADIENTS[name], (s, t))


# --- known values ---------------------------------------------------------------------------------

ZERO_FOR_EQUAL = ["tckd", "nckd", "dist_inter", "dist_intra", "mlkd_batch", "mlkd_class", "rld_correlation", "normkd"]


@pytest.mark.parametrize("name", ZERO_FOR_EQUAL)
@pytest.mark.parametrize("seed", range(5))
def test_zero_for_equal_logits_and_not_otherwise(name, seed):
    s, t = normal(3, 5, seed=seed), normal(3, 5, seed=seed + 50)
    near_zero = 1e-4 if name.startswith("dist") else 1e-12  # the ε of the correlation
    assert GRADIENTS[name](s, s).abs().max() < near_zero
    if name != "rld_correlation":  # zero too where nothing ranks below the label
        assert GRADIENTS[name](s, t).mean() > 1e-3


@pytest.mark.parametrize("temperature", [1.0, 4.0])
def test_dkd_holds_the_whole_of_kd(temperature):
    """KL = TCKD + (1 − p_t,y)·NCKD for each sample (eq. 6)."""
    s, t = pair_of_logits((6, 9), torch.float64)
    y = labels_for((6, 9))
    doubt = class_against_rest(t / temperature, y)[:, 1].exp()
    whole = tckd_of_each(s, t, y, temperature) + doubt * nckd_of_each(s, t, y, temperature)
    assert_near(whole.mean(), kd_loss(s, t, temperature).item())


def test_dkd_by_hand():
    """Probabilities (½, ¼, ¼) against (¼, ½, ¼); the label is the first class."""
    t, s = torch.tensor([[2.0, 1.0, 1.0]]).double().log(), torch.tensor([[1.0, 2.0, 1.0]]).double().log()
    y = torch.tensor([0])
    assert_near(tckd_of_each(s, t, y, 1.0), [0.5 * math.log(2) + 0.5 * math.log(0.5 / 0.75)])
    assert_near(nckd_of_each(s, t, y, 1.0), [0.5 * math.log(0.5 / (2 / 3)) + 0.5 * math.log(0.5 / (1 / 3))])


def test_two_classes_leave_nothing_beside_the_label():
    s, t = pair_of_logits((4, 2), torch.float64)
    y = torch.tensor([0, 1, 1, 0])
    assert nckd_of_each(s, t, y, 4.0).tolist() == [0, 0, 0, 0]
    assert others_loss(s, t, y, 1.0) == 0


def test_nkd_of_equal_predictions_is_the_entropy_of_the_others():
    t = torch.tensor([[6.0, 1.0, 2.0, 1.0]]).double().log()
    y = torch.tensor([0])
    assert_near(target_loss(t, t, y), -0.6 * math.log(0.6))
    entropy = -(2 * 0.25 * math.log(0.25) + 0.5 * math.log(0.5))
    assert_near(others_loss(t, t, y, 1.0), entropy)


def test_dist_knows_neither_shift_nor_scale_of_predictions():
    """Any student whose probabilities are a linear function of the teacher's has learned all of it."""
    p_t = torch.tensor([[0.5, 0.3, 0.2], [0.1, 0.6, 0.3]]).double()
    p_s = 0.5 * p_t + 0.5 / 3
    assert inter_loss(p_s.log(), p_t.log(), 1.0).abs() < 1e-5
    assert intra_loss(p_s.log(), p_t.log(), 1.0).abs() < 1e-5
    reverse = (0.7 - p_t) / (0.7 - p_t).sum(dim=1, keepdim=True)
    assert_near(inter_loss(reverse.log(), p_t.log(), 1.0).round(decimals=5), 2.0)


def test_the_transformed_teacher_is_reached_by_its_logits_times_the_power():
    t = normal(4, 6)
    assert transformed_kl_of_each(0.3 * t, t, 0.3).abs().max() < 1e-12
    assert wttm_loss(0.3 * t, t, 0.3).abs() < 1e-12
    assert_near(transformed_kl_of_each(t, 2 * t, 0.5), np.zeros(4))


def test_power_sums_weigh_smooth_targets_more():
    logits = torch.tensor([[0.0, 0, 0, 0], [99.0, 0, 0, 0]]).double()
    assert_near(power_sum(logits, 0.5), [4 * 0.5, 1.0])
    assert_near(power_sum(normal(3, 5), 1.0), np.ones(3))


def test_soft_label_weights():
    """Student and teacher alike: 1 − 1/e; a student that knows: 0; a teacher that knows where it does not: 1."""
    sharp, flat = torch.tensor([[30.0, 0.0]]).double(), torch.tensor([[0.0, 0.0]]).double()
    y = torch.tensor([0])
    assert_near(soft_label_weights(flat, flat, y), [1 - math.exp(-1 / (1 + 1e-7 / math.log(2)))])
    assert soft_label_weights(sharp, flat, y) < 1e-12
    assert_near(soft_label_weights(flat, sharp, y), [1.0])
    student = normal(3, 5).requires_grad_()
    assert not soft_label_weights(student, normal(3, 5, seed=1), LABELS).requires_grad


def test_the_share_up_to_the_median():
    share = lambda *values: share_up_to_median(torch.tensor(values)).item()  # noqa: E731
    assert [share(3.0, 1.0, 2.0, 9.0), share(2.0, 1.0), share(5.0)] == [0.5, 0.5, 1]
    assert share(1.0, 2.0, 3.0) == pytest.approx(2 / 3)
    assert [share(1.0, 1.0, 1.0, 2.0), share(1.0, 1.0)] == [0.75, 1]


def test_rld_asks_the_true_class_to_be_as_sure_as_the_teachers_favourite():
    t = torch.tensor([[5.0, 1.0, 3.0, 0.0]]).double()
    y = torch.tensor([2])
    swapped = torch.tensor([[3.0, 1.0, 5.0, 0.0]]).double()
    assert_near(confidence_loss(swapped, t, y, 2.0), 0.0)
    assert confidence_loss(t, t, y, 2.0) > 0.1
    # Classes 1 and 3 rank below the label; what the student thinks of the others is its own business.
    free = torch.tensor([[-7.0, 1.5, 9.0, 0.5]]).double()
    assert_near(masked_correlation_loss(free, t, y, 2.0), 0.0)
    assert masked_correlation_loss(-t, t, y, 2.0) > 0.1


def test_rld_has_no_correlation_where_the_label_ranks_last():
    t = torch.tensor([[5.0, 1.0, 3.0]])
    student = torch.tensor([[0.0, 4.0, -2.0]], requires_grad=True)
    loss = masked_correlation_loss(student, t, torch.tensor([1]), 4.0)
    loss.backward()
    assert loss == 0
    assert student.grad.tolist() == [[0, 0, 0]]


def test_normkd_knows_neither_shift_nor_scale_of_the_student():
    s, t = pair_of_logits((4, 7), torch.float64)
    assert_near(normkd_loss(5 * s - 2, t, 2.0), normkd_loss(s, t, 2.0).item())
    assert_near(normkd_loss(s, 3 * t + 1, 2.0), 9 * normkd_loss(s, t, 2.0).item())


def test_kl_of_each_is_that_of_kd():
    s, t = pair_of_logits((5, 6), torch.float64)
    assert_near(kl_of_each(s.log_softmax(1), t.log_softmax(1)).mean(), kd_loss(s, t, 1.0).item())


# --- odd inputs -----------------------------------------------------------------------------------


def one_hot(size, shift=0):
    logits = torch.full((3, 5), -size)
    logits[torch.arange(3), (LABELS + shift) % 5] = size
    return logits


ODD = {
    "saturated right": one_hot(50.0),
    "saturated wrong": one_hot(50.0, shift=1),
    "far out": one_hot(1e4),
    "far out and wrong": one_hot(1e4, shift=2),
    "zeros": torch.zeros(3, 5),
    "constant": torch.full((3, 5), 50.0),
    "ordinary": normal(3, 5, dtype=torch.float32),
}
LOSSES = GRADIENTS | {
    "wsld whole": lambda s, t: weighted_soft_loss(s, t, soft_label_weights(s, t, LABELS), 4.0),
    "mlkd whole": lambda s, t: sum(published_losses((s, t), (t, s.detach())).values()),
}


@pytest.mark.parametrize("name", LOSSES)
def test_stays_finite_for_odd_inputs(name):
    sizes = (3, 1) if name.startswith(("mlkd", "dist")) else (3,)  # the other losses take samples one by one
    for (kind_s, s), (kind_t, t), size in itertools.product(ODD.items(), ODD.items(), sizes):
        student = s[:size].clone().requires_grad_()
        value = LOSSES[name](student, t[:size]).sum()
        value.backward()
        assert value.isfinite(), (kind_s, kind_t)
        assert student.grad.isfinite().all(), (kind_s, kind_t)


@pytest.mark.parametrize("name", LOSSES)
@pytest.mark.parametrize("classes", [5, 10, 100])
def test_a_classifier_that_starts_at_zero_takes_no_giant_step(name, classes):
    """As those of MLPs do: equal predictions have no scale to divide by, whatever rounding makes of them."""
    teacher = 3 * normal(3, classes, dtype=torch.float32)
    student = torch.zeros(3, classes, requires_grad=True)
    LOSSES[name](student, teacher).sum().backward()
    assert student.grad.abs().max() < 100


# --- the methods ----------------------------------------------------------------------------------

SHAPES = FeatureShapes(5, 4, (3, 8, 8), ((3, 8, 8), (4, 4, 4)), ((3, 8, 8), (4, 4, 4)), (), (4, 4, 4))
PUBLISHED = {
    "dkd": (Weights(1, 0, 1), {"dkd_alpha": 1.0, "dkd_beta": 8.0, "dkd_T": 4.0, "dkd_warmup": 20}),
    "nkd": (Weights(1, 0, 1), {"nkd_gamma": 1.5, "nkd_T": 1.0}),
    "dist": (Weights(1, 0, 1), {"dist_inter": 2.0, "dist_intra": 2.0, "dist_T": 4.0}),
    "ttm": (Weights(1, 0, 45), {"ttm_l": 0.1}),
    "wttm": (Weights(1, 0, 4), {"wttm_l": 0.2}),
    "wsld": (Weights(1, 0, 2.25), {"wsld_T": 4.0}),
    "ctkd": (Weights(0.1, 0, 0.9), {"ctkd_T_start": 1.0, "ctkd_T_range": 20.0, "ctkd_loops": 10}),
    "mlkd": (Weights(0.2, 0, 0.9), {"mlkd_form": "published"}),
    "rld": (Weights(1, 0, 1), {"rld_alpha": 1.0, "rld_beta": 8.0, "rld_T": 4.0, "rld_warmup": 20}),
    "normkd": (Weights(0.1, 0, 0.9), {"normkd_T": 2.0}),
}


@pytest.mark.parametrize("name", PUBLISHED)
def test_published_weights_and_defaults(name):
    weights, options = PUBLISHED[name]
    assert METHODS[name].weights == weights
    assert {option: parameter.default for option, parameter in options_of(name).items()} == options
    assert METHODS[name].reads_of_student() == METHODS[name].reads_of_teacher() == ()
    assert METHODS[name].views == (2 if name == "mlkd" else 1)


def create(name, **options):
    return create_method(name, Pair(SHAPES, (SHAPES,), 20), options)


def batch_of(epoch, labels=LABELS):
    return Batch(torch.zeros(len(labels), 3, 1, 1), labels, torch.arange(len(labels)), None, epoch, 0, 1)


def losses_of(name, s, t, epoch=100, labels=LABELS, **options):
    return create(name, **options).losses(Features(s), (Features(t),), batch_of(epoch, labels))


def test_losses_of_each_method():
    s, t = pair_of_logits((3, 5), torch.float64)
    expected = {
        "dkd": {
            "dkd_target": naive_dkd(s, t, LABELS, 1, 0, 4.0),
            "dkd_others": naive_dkd(s, t, LABELS, 0, 8, 4.0),
        },
        "nkd": {
            "nkd_target": naive_nkd(s, t, LABELS, 0, 1.0),
            "nkd_others": naive_nkd(s, t, LABELS, 1.5, 1.0) - naive_nkd(s, t, LABELS, 0, 1.0),
        },
        "ttm": {"ttm": naive_ttm(s, t, 0.1, weighted=False)},
        "wttm": {"wttm": naive_ttm(s, t, 0.2, weighted=True)},
        "wsld": {"wsld": naive_wsld(s, t, LABELS, 4.0)},
        "ctkd": {"ctkd": naive_kd(s, t, 1 + 20 / (1 + math.exp(-1)))},
        "rld": {
            "rld_confidence": naive_rld(s, t, LABELS, 4.0)[0],
            "rld_correlation": 8 * naive_rld(s, t, LABELS, 4.0)[1],
        },
        "normkd": {"normkd": naive_normkd(s, t, 2.0)},
    }
    for name, parts in expected.items():
        found = losses_of(name, s, t)
        assert list(found) == list(parts)
        for part, value in parts.items():
            np.testing.assert_allclose(found[part].item(), value, rtol=1e-6, err_msg=part)  # θ is in float32
    inter, intra = naive_dist(s, t, 4.0)
    found = losses_of("dist", s, t)
    assert_near(torch.stack([found["dist_inter"], found["dist_intra"]]), [2 * inter, 2 * intra])


@pytest.mark.parametrize("name", ["dkd", "rld"])
def test_warm_up_over_twenty_epochs(name):
    s, t = pair_of_logits((3, 5), torch.float64)
    whole = losses_of(name, s, t, epoch=20)
    assert losses_of(name, s, t, epoch=21) == losses_of(name, s, t, **{f"{name}_warmup": 0}, epoch=1) == whole
    for part, value in losses_of(name, s, t, epoch=5).items():
        assert_near(value, whole[part].item() / 4)


def test_warm_up():
    assert [warm_up(epoch, 4) for epoch in (1, 2, 4, 5, 100)] == [0.25, 0.5, 1, 1, 1]
    assert [warm_up(1, 0), warm_up(1, 1)] == [1, 1]


def test_options_weigh_the_parts():
    s, t = pair_of_logits((3, 5), torch.float64)
    for name, options, names in (
        ("dkd", ("dkd_alpha", "dkd_beta"), ("dkd_target", "dkd_others")),
        ("rld", ("rld_alpha", "rld_beta"), ("rld_confidence", "rld_correlation")),
        ("dist", ("dist_inter", "dist_intra"), ("dist_inter", "dist_intra")),
    ):
        ones = losses_of(name, s, t, **dict.fromkeys(options, 1.0))
        other = losses_of(name, s, t, **{options[0]: 3.0, options[1]: 0.0})
        assert_near(other[names[0]], 3 * ones[names[0]].item())
        assert other[names[1]] == 0


def test_mlkd_takes_the_first_half_of_the_rows_as_the_weak_view():
    weak, strong = pair_of_logits((3, 5), torch.float64), (normal(3, 5, seed=3), normal(3, 5, seed=4))
    s, t = (torch.cat([a, b]) for a, b in zip(weak, strong, strict=True))
    expected = naive_mlkd(weak, strong)
    found = losses_of("mlkd", s, t, labels=LABELS.repeat(2))
    assert list(found) == list(expected)
    for name, value in found.items():
        assert_near(value, expected[name])


def test_mlkd_in_its_symmetric_form():
    weak, strong = pair_of_logits((3, 5), torch.float64), (normal(3, 5, seed=3), normal(3, 5, seed=4))
    s, t = (torch.cat([a, b]) for a, b in zip(weak, strong, strict=True))
    expected = dict.fromkeys(("mlkd_instance", "mlkd_batch", "mlkd_class"), 0.0)
    for view in (weak, strong):
        for temperature in TEMPERATURES:
            of_batch, of_classes = naive_gram_losses(*view, temperature)
            expected["mlkd_instance"] += naive_kd(*view, temperature)
            expected["mlkd_batch"] += of_batch
            expected["mlkd_class"] += of_classes
    found = losses_of("mlkd", s, t, labels=LABELS.repeat(2), mlkd_form="symmetric")
    for name, value in found.items():
        assert_near(value, expected[name])


@pytest.mark.parametrize("name", ["mlkd", "kd+mlkd"])
@pytest.mark.parametrize("form", ["published", "symmetric"])
def test_mlkd_standardises_its_instance_level_alone(form, name):
    """As the authors of logit standardization do: levels of batch and classes and the masks see logits as they are."""
    weak, strong = pair_of_logits((3, 5), torch.float64), (normal(3, 5, seed=3), normal(3, 5, seed=4))
    s, t = (torch.cat([a, b]) for a, b in zip(weak, strong, strict=True))
    if form == "published":
        expected = naive_mlkd(weak, strong, z_scored)
    else:
        expected = {"mlkd_instance": 0.0}
        for z_s, z_t in (weak, strong):
            expected["mlkd_instance"] += sum(naive_kd(z_scored(z_s), z_scored(z_t), float(T)) for T in range(2, 7))
        raw = losses_of("mlkd", s, t, labels=LABELS.repeat(2), mlkd_form=form)
        expected |= {name: raw[name].item() for name in ("mlkd_batch", "mlkd_class")}
    method = create(name, mlkd_form=form)
    for part in (method, *getattr(method, "methods", ())):
        part.logit_standardization = True
    found = method.own_losses(Features(s), (Features(t),), batch_of(1, LABELS.repeat(2)))
    for name, value in found.items():
        np.testing.assert_allclose(value.item(), expected[name], rtol=1e-6, err_msg=name)


@pytest.mark.parametrize("name", ["dkd", "nkd", "rld", "wsld", "dist"])
def test_other_methods_are_given_standardised_logits(name):
    s, t = pair_of_logits((3, 5), torch.float64)
    method = create(name)
    method.logit_standardization = True
    found = method.own_losses(Features(s), (Features(t),), batch_of(100))
    expected = losses_of(name, z_scored(s), z_scored(t))
    assert list(found) == list(expected)
    for part, value in found.items():
        np.testing.assert_allclose(value.item(), expected[part].item(), rtol=1e-9, err_msg=part)
    raw = losses_of(name, s, t)
    assert any(abs(found[part].item() - raw[part].item()) > 1e-3 for part in found)


# --- mixed images -----------------------------------------------------------------------------------


def mixed_batch(labels, others, share, classes, epoch=100):
    """Of each image `share` is of its own class and the rest of another one's."""
    targets = torch.zeros(len(labels), classes)
    for row, (own, other) in enumerate(zip(labels.tolist(), others.tolist(), strict=True)):
        targets[row, own] += share
        targets[row, other] += 1 - share
    return Batch(torch.zeros(len(labels), 3, 1, 1), labels, torch.arange(len(labels)), targets, epoch, 0, 1)


@pytest.mark.parametrize(
    ("share", "expected"), [(0.3, [4, 1, 2]), (0.7, [0, 3, 2]), (0.5, [0, 3, 2]), (0.0, [4, 1, 2]), (1.0, [0, 3, 2])]
)
def test_main_labels(share, expected):
    """Of the third image both parts are of one class; at equal shares the label stays that of the image itself."""
    batch = mixed_batch(torch.tensor([0, 3, 2]), torch.tensor([4, 1, 2]), share, 5)
    assert batch.main_labels.tolist() == expected
    assert batch.first(2).main_labels.tolist() == expected[:2]
    smoothed = Batch(batch.images, batch.labels, batch.index, 0.9 * batch.targets + 0.02, 1, 0, 1)
    assert smoothed.main_labels.tolist() == expected
    assert batch_of(1).main_labels is LABELS


@pytest.mark.parametrize("mixing", [{"mixup": 0.8}, {"cutmix": 1.0}])
def test_main_labels_of_a_stream(mixing):
    """In some batches the image before mixing is the smaller part, and then every label is another's."""
    images = np.random.default_rng(0).integers(0, 256, (24, 8, 8, 3), dtype=np.uint8)
    batching = Batching(Augmentation(**mixing), 6, 1, True)
    stream = BatchStream(images, np.arange(24) % 10, DATASETS["digits"], batching, "cpu")
    swapped = 0
    for epoch in range(1, 6):
        for batch in stream.epoch(epoch):
            share = [target[label].item() for target, label in zip(batch.targets, batch.labels, strict=True)]
            other = batch.labels.flip(0)
            expected = [
                own.item() if part >= 0.5 or own == mixed else mixed.item()
                for part, own, mixed in zip(share, batch.labels, other, strict=True)
            ]
            assert batch.main_labels.tolist() == expected
            swapped += expected != batch.labels.tolist()
    assert 1 < swapped < 20


@pytest.mark.parametrize("share", [0.3, 0.6])
@pytest.mark.parametrize("name", ["dkd", "nkd", "rld", "wsld"])
def test_the_label_of_a_mixed_image_is_that_of_its_larger_part(name, share):
    s, t = pair_of_logits((3, 5), torch.float64)
    others = torch.tensor([4, 1, 0])
    main = LABELS if share > 0.5 else others
    batch = mixed_batch(LABELS, others, share, 5)
    found = create(name).losses(Features(s), (Features(t),), batch)
    expected = {
        "dkd": lambda: naive_dkd(s, t, main, 1, 8, 4.0),
        "nkd": lambda: naive_nkd(s, t, main, 1.5, 1.0),
        "rld": lambda: naive_rld(s, t, main, 4.0)[0] + 8 * naive_rld(s, t, main, 4.0)[1],
        "wsld": lambda: naive_wsld(s, t, main, 4.0),
    }
    assert_near(sum(found.values()), expected[name]())


# --- the learned temperature ----------------------------------------------------------------------


def test_the_adversary_grows_along_a_cosine():
    expected = [0.0245, 0.0955, 0.2061, 0.3455, 0.5, 0.6545, 0.7939, 0.9045, 0.9755, 1, 1, 1]
    found = [adversary_strength(epoch, 10) for epoch in range(1, 13)]
    np.testing.assert_allclose(found, expected, atol=1e-4)
    assert adversary_strength(1, 1) == 1


def test_reversed_gradient():
    x = torch.tensor([0.1, -7.3, 1e-30, 12345.678], requires_grad=True)
    found = reversed_gradient(x, 0.3)
    assert torch.equal(found, x)
    (found * torch.tensor([1.0, 2.0, 3.0, 4.0])).sum().backward()
    np.testing.assert_allclose(x.grad.numpy(), [-0.3, -0.6, -0.9, -1.2], rtol=1e-6)


@pytest.mark.parametrize("epoch", [1, 5, 10, 200])
def test_theta_climbs_where_the_student_descends(epoch):
    """Its gradient is that of the loss, by finite differences, times −λ; the student's is the plain one."""
    s, t = pair_of_logits((3, 5), torch.float64)
    s.requires_grad_()
    method = create("ctkd").double()
    loss = method.losses(Features(s), (Features(t),), batch_of(epoch))["ctkd"]
    loss.backward()

    def at(theta):
        return naive_kd(s.detach(), t, 1 + 20 / (1 + math.exp(-theta)))

    slope = (at(1 + 1e-5) - at(1 - 1e-5)) / 2e-5
    np.testing.assert_allclose(method.theta.grad.item(), -adversary_strength(epoch, 10) * slope, rtol=1e-5)
    plain = s.detach().clone().requires_grad_()
    kd_loss(plain, t, method.temperature(1).item()).backward()
    torch.testing.assert_close(s.grad, plain.grad)


def test_the_temperature_stays_between_its_bounds():
    method = create("ctkd")
    assert method.temperature(1).item() == pytest.approx(1 + 20 / (1 + math.exp(-1)))
    for theta, expected in ((-1e4, 1), (0, 11), (1e4, 21)):
        with torch.no_grad():
            method.theta.fill_(theta)
        assert method.temperature(3).item() == pytest.approx(expected)
    assert list(method.state_dict()) == ["theta"]
    s, t = ODD["saturated wrong"].clone().requires_grad_(), ODD["saturated right"]
    for theta in (-1e4, 1e4):
        with torch.no_grad():
            method.theta.fill_(theta)
        method.loss(Features(s), Features(t), batch_of(3)).backward()
        assert method.theta.grad.isfinite()
        assert s.grad.isfinite().all()


# --- refusals -------------------------------------------------------------------------------------

POSITIVE = ["dkd_T", "nkd_T", "dist_T", "ttm_l", "wttm_l", "wsld_T", "ctkd_T_start", "ctkd_T_range", "ctkd_loops",
            "rld_T", "normkd_T"]  # fmt: skip
NOT_NEGATIVE = ["dkd_alpha", "dkd_beta", "dkd_warmup", "nkd_gamma", "dist_inter", "dist_intra", "rld_alpha", "rld_beta",
                "rld_warmup"]  # fmt: skip


@pytest.mark.parametrize("option", POSITIVE)
def test_options_that_must_be_positive(option):
    with pytest.raises(RequestError, match=f"^--{option} is 0; it must be positive$"):
        create(option.split("_")[0], **{option: 0})


@pytest.mark.parametrize("option", NOT_NEGATIVE)
def test_options_that_may_not_be_negative(option):
    with pytest.raises(RequestError, match=f"^--{option} is -1; it must be 0 or more$"):
        create(option.split("_")[0], **{option: -1})
    create(option.split("_")[0], **{option: 0})
