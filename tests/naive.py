"""Reference computations in plain Python and NumPy, in double precision, that tests compare the suite's formulas with.

They follow the formulas word by word, with loops over samples, classes, channels and positions, and share no code
with the suite. Arrays are NumPy arrays; a row is any sequence of numbers.
"""

import math
from collections.abc import Callable, Iterable, Sequence

import numpy as np
from torch import nn

Row = Sequence[float] | np.ndarray

# --- predictions ----------------------------------------------------------------------------------


def mean(values: Sequence[float]) -> float:
    """The mean of numbers, summed without rounding in between."""
    return math.fsum(values) / len(values)


def softmax(row: Row, temperature: float = 1.0) -> list[float]:
    """Probabilities of one row of logits."""
    row = [value / temperature for value in row]
    powers = [math.exp(value - max(row)) for value in row]
    return [power / math.fsum(powers) for power in powers]


def log_softmax(row: Row, temperature: float = 1.0) -> list[float]:
    """Logarithms of `softmax`, finite where a probability is 0."""
    row = [value / temperature for value in row]
    total = math.log(math.fsum(math.exp(value - max(row)) for value in row)) + max(row)
    return [value - total for value in row]


def kl(p: Row, q: Row) -> float:
    """KL(p ‖ q) of two rows of probabilities."""
    return math.fsum(a * math.log(a / b) for a, b in zip(p, q, strict=True))


def negative_entropy(row: Row) -> float:
    """Σ p·log p of the probabilities of one row of logits."""
    return math.fsum(p * math.log(p) for p in softmax(row))


def z_scored(rows: np.ndarray) -> np.ndarray:
    """Rows (...×K) with mean 0 and standard deviation 1."""
    return (rows - rows.mean(axis=-1, keepdims=True)) / (rows.std(axis=-1, ddof=1, keepdims=True) + 1e-7)


def kd_of_one(s: Row, t: Row, temperature: float) -> float:
    """T²·KL(teacher ‖ student) of one sample's logits."""
    return temperature**2 * kl(softmax(t, temperature), softmax(s, temperature))


def kd(logits_s: np.ndarray, logits_t: np.ndarray, temperature: float) -> float:
    """The mean of `kd_of_one` over a batch."""
    return mean([kd_of_one(s, t, temperature) for s, t in zip(logits_s, logits_t, strict=True)])


def class_and_rest(row: Row, label: int, temperature: float) -> list[float]:
    """The probability of one class, and that of all others together."""
    p = softmax(row, temperature)
    return [p[label], math.fsum(value for k, value in enumerate(p) if k != label)]


def softmax_of_others(row: Row, label: int, temperature: float) -> list[float]:
    """Probabilities among the classes other than `label`."""
    return softmax([value for k, value in enumerate(row) if k != label], temperature)


def tckd_of_one(s: Row, t: Row, label: int, temperature: float) -> float:
    """DKD's target part: T²·KL of (class, rest) of one sample."""
    return temperature**2 * kl(class_and_rest(t, label, temperature), class_and_rest(s, label, temperature))


def nckd_of_one(s: Row, t: Row, label: int, temperature: float) -> float:
    """DKD's other part: T²·KL among the classes that are not the sample's own."""
    return temperature**2 * kl(softmax_of_others(t, label, temperature), softmax_of_others(s, label, temperature))


def dkd_of_one(s: Row, t: Row, label: int, alpha: float, beta: float, temperature: float) -> float:
    """α·TCKD + β·NCKD of one sample."""
    return alpha * tckd_of_one(s, t, label, temperature) + beta * nckd_of_one(s, t, label, temperature)


def hard_label_loss(s: Row, t: Row) -> float:
    """Cross-entropy of one student row with the class that the teacher's row prefers."""
    return -log_softmax(s)[list(t).index(max(t))]


def contrast_with_diagonal(scores: Iterable[Row]) -> float:
    """InfoNCE: the mean of −log softmax(row i)[i]."""
    return -mean([log_softmax(row)[i] for i, row in enumerate(scores)])


# --- vectors --------------------------------------------------------------------------------------


def unit(vector: np.ndarray) -> np.ndarray:
    """A vector or map of length 1; zero stays zero."""
    return vector / (math.sqrt((vector**2).sum()) or 1.0)


def cosine(a: np.ndarray, b: np.ndarray) -> float:
    """The cosine between two vectors; 0 where one of them is zero."""
    return float((unit(a) * unit(b)).sum())


def gram(rows: Iterable[np.ndarray]) -> np.ndarray:
    """All inner products of some vectors or maps."""
    rows = list(rows)
    return np.array([[(a * b).sum() for b in rows] for a in rows])


def huber(difference: float) -> float:
    """Quadratic below 1, linear above."""
    return difference**2 / 2 if abs(difference) < 1 else abs(difference) - 0.5


# --- maps -----------------------------------------------------------------------------------------


def pool(maps: np.ndarray, height: int, width: int) -> np.ndarray:
    """Adaptive average of B×C×H×W maps: cell i covers the rows from floor(i·H/h) to ceil((i+1)·H/h)."""
    high, wide = maps.shape[2:]
    pooled = np.zeros((*maps.shape[:2], height, width))
    for i, j in np.ndindex(height, width):
        rows = slice(math.floor(i * high / height), math.ceil((i + 1) * high / height))
        columns = slice(math.floor(j * wide / width), math.ceil((j + 1) * wide / width))
        pooled[:, :, i, j] = maps[:, :, rows, columns].mean(axis=(2, 3))
    return pooled


def common_size(a: np.ndarray, b: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Two maps, pooled to the height and the width of the smaller."""
    size = min(a.shape[2], b.shape[2]), min(a.shape[3], b.shape[3])
    return pool(a, *size), pool(b, *size)


def cells(sample: np.ndarray, size: int) -> np.ndarray:
    """size²×C means over the cells of a C×H×W map, row by row."""
    return pool(sample[None], size, size)[0].reshape(len(sample), -1).T


def over_regions(
    maps: tuple[np.ndarray, np.ndarray],
    classifiers: Sequence[np.ndarray],
    labels: Sequence[int],
    scales: Sequence[int],
    complementary: float,
    loss: Callable[[np.ndarray, np.ndarray, int], float],
) -> float:
    """Scale decoupled distillation: the weighted mean of a loss over samples and regions.

    Args:
        maps: B×C×H×W of student and teacher.
        classifiers: weight and bias of the student, weight and bias of the teacher.
        complementary: weight of a region in which the teacher is right where it errs on the whole, or the reverse.
        loss: of one region's logits of student and teacher, and the label.
    """
    w_s, b_s, w_t, b_t = classifiers
    total = []
    for f_s, f_t, label in zip(*maps, labels, strict=True):
        right_on_the_whole = (w_t @ f_t.mean(axis=(1, 2)) + b_t).argmax() == label
        for scale in scales:
            for cell_s, cell_t in zip(cells(f_s, scale), cells(f_t, scale), strict=True):
                z_s, z_t = w_s @ cell_s + b_s, w_t @ cell_t + b_t
                weight = 1 if (z_t.argmax() == label) == right_on_the_whole else complementary
                total.append(weight * loss(z_s, z_t, label))
    return mean(total)


# --- layers ---------------------------------------------------------------------------------------


def numbers(tensor) -> np.ndarray:
    """A tensor's numbers in double precision, without its gradient."""
    return tensor.detach().double().numpy()


def linear(layer: nn.Linear, rows: np.ndarray) -> np.ndarray:
    """A linear layer on rows ...×D."""
    out = rows @ numbers(layer.weight).T
    return out if layer.bias is None else out + numbers(layer.bias)


def embed(layer: nn.Linear, rows: np.ndarray) -> np.ndarray:
    """A linear layer on rows, each brought to length 1."""
    return np.array([unit(row) for row in linear(layer, rows)])


def gelu(value: float) -> float:
    """The exact GELU."""
    return value * (1 + math.erf(value / math.sqrt(2))) / 2


def layer_norm(layer: nn.LayerNorm, rows: np.ndarray) -> np.ndarray:
    """A layer norm over the last axis."""
    centred = rows - rows.mean(axis=-1, keepdims=True)
    scaled = centred / np.sqrt((centred**2).mean(axis=-1, keepdims=True) + layer.eps)
    return scaled * numbers(layer.weight) + numbers(layer.bias)


def batch_norm(layer: nn.BatchNorm1d | nn.BatchNorm2d, x: np.ndarray) -> np.ndarray:
    """A batch norm in training mode: the statistics are those of the batch."""
    axes, shape = (0, *range(2, x.ndim)), (1, -1, *[1] * (x.ndim - 2))
    x = (x - x.mean(axis=axes, keepdims=True)) / np.sqrt(x.var(axis=axes, keepdims=True) + layer.eps)
    return x * numbers(layer.weight).reshape(shape) + numbers(layer.bias).reshape(shape)


def convolve(layer: nn.Conv2d, x: np.ndarray) -> np.ndarray:
    """A convolution (one group, square kernel) window by window."""
    weight, size, stride, pad = numbers(layer.weight), layer.kernel_size[0], layer.stride[0], layer.padding[0]
    x = np.pad(x, ((0, 0), (0, 0), (pad, pad), (pad, pad)))
    high, wide = ((side - size) // stride + 1 for side in x.shape[2:])
    out = np.zeros((len(x), len(weight), high, wide))
    for b, c, i, j in np.ndindex(out.shape):
        window = x[b, :, i * stride : i * stride + size, j * stride : j * stride + size]
        out[b, c, i, j] = (window * weight[c]).sum()
    return out if layer.bias is None else out + numbers(layer.bias)[:, None, None]


def convolve_transposed(layer: nn.ConvTranspose2d, x: np.ndarray) -> np.ndarray:
    """A transposed convolution (one group, square kernel): each pixel stamps the kernel on a larger map."""
    weight, size, stride, pad = numbers(layer.weight), layer.kernel_size[0], layer.stride[0], layer.padding[0]
    high, wide = ((side - 1) * stride + size for side in x.shape[2:])
    out = np.zeros((len(x), weight.shape[1], high, wide))
    for b, c, i, j in np.ndindex(x.shape):
        out[b, :, i * stride : i * stride + size, j * stride : j * stride + size] += x[b, c, i, j] * weight[c]
    out = out[:, :, pad : high - pad, pad : wide - pad]
    return out if layer.bias is None else out + numbers(layer.bias)[:, None, None]


def run_layers(layers: Iterable[nn.Module], x: np.ndarray) -> np.ndarray:
    """Layers one after the other, as they are in training mode."""
    for layer in layers:
        if isinstance(layer, nn.BatchNorm1d | nn.BatchNorm2d):
            x = batch_norm(layer, x)
        elif isinstance(layer, nn.ReLU):
            x = np.maximum(x, 0)
        elif isinstance(layer, nn.LeakyReLU):
            x = np.where(x > 0, x, layer.negative_slope * x)
        elif isinstance(layer, nn.Sigmoid):
            x = 1 / (1 + np.exp(-x))
        elif isinstance(layer, nn.Linear):
            x = linear(layer, x)
        elif isinstance(layer, nn.Conv2d):
            x = convolve(layer, x)
        elif isinstance(layer, nn.ConvTranspose2d):
            x = convolve_transposed(layer, x)
        else:
            assert isinstance(layer, nn.Identity), layer
    return x


def described(layers: Iterable[nn.Module]) -> list[tuple[int, ...] | str]:
    """Layers in short: (in, out, kernel) of convolutions, (in, out) of linear layers, names of the others."""
    out: list[tuple[int, ...] | str] = []
    for layer in layers:
        if isinstance(layer, nn.Conv2d | nn.ConvTranspose2d):
            out.append((layer.in_channels, layer.out_channels, layer.kernel_size[0]))
        elif isinstance(layer, nn.Linear):
            out.append((layer.in_features, layer.out_features))
        else:
            out.append(type(layer).__name__)
    return out
