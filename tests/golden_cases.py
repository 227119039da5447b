"""Read the golden numbers of tests/golden: inputs, and what the authors' code computes from them."""

import json
from collections import defaultdict
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from dataset import Batch
from distiller_zoo import Method, Pair, Weights
from engine.protocol.plan import RunPlan, TeacherFile
from engine.protocol.recipes import RECIPES, Recipe
from models import Features, FeatureShapes, Network, create_model

FOLDER = Path(__file__).parent / "golden"
TRAJECTORIES = sorted(path.stem for path in FOLDER.glob("trajectory__*.npz"))
STEPS = sorted({path.stem for path in FOLDER.glob("*.npz")} - set(TRAJECTORIES))
TOLERANCE = 1e-8
IMAGE_SIZE = 32


class GoldenFile:
    """The arrays of one file. A test takes each of them, so that none is overlooked (see `assert_all_taken`).

    Numbers become tensors, those with a fraction in float64; texts become `str`.
    """

    def __init__(self, name: str):
        with np.load(FOLDER / f"{name}.npz", allow_pickle=False) as arrays:
            self._left = {key: _value_of(arrays[key]) for key in arrays.files}

    def __contains__(self, key: str) -> bool:
        return key in self._left

    def take(self, key: str):
        """Remove and return one value; raises KeyError if the file does not have it."""
        return self._left.pop(key)

    def take_json(self, key: str):
        """Remove and return a value that is stored as JSON."""
        return json.loads(self.take(key))

    def take_all(self, folder: str) -> dict[str, Tensor]:
        """Remove and return all values whose key begins with `folder/`, without that beginning."""
        keys = [key for key in self._left if key.startswith(f"{folder}/")]
        return {key.removeprefix(f"{folder}/"): self.take(key) for key in keys}

    def assert_all_taken(self) -> None:
        """Fail if the file holds anything that the test did not understand."""
        assert not self._left, f"unknown keys: {', '.join(self._left)}"


def _value_of(array: np.ndarray) -> Tensor | str:
    if array.dtype.kind == "U":
        return str(array)
    tensor = torch.from_numpy(array)
    return tensor.double() if tensor.is_floating_point() else tensor


class GoldenBatch(Batch):
    """A batch whose random numbers come from one seed, whatever their purpose."""

    def generator(self, purpose: str) -> torch.Generator:
        return torch.Generator().manual_seed(self.seed)


def take_batch(golden: GoldenFile) -> GoldenBatch:
    """The batch of a single step, without images."""
    labels, index = golden.take("batch/labels"), golden.take("batch/index")
    epoch, seed = int(golden.take("batch/epoch")), int(golden.take("batch/seed"))
    return GoldenBatch(torch.empty(len(labels), 0), labels, index, None, epoch, 0, seed)


def take_pair(golden: GoldenFile) -> Pair:
    """The shapes that a single step's method is built from."""
    pair = golden.take_json("pair")
    pair["student"] = _shapes_of(pair["student"])
    pair["teachers"] = tuple(map(_shapes_of, pair["teachers"]))
    return Pair(**pair)


def _shapes_of(fields: dict) -> FeatureShapes:
    return FeatureShapes(**{name: _as_tuple(value) for name, value in fields.items()})


def _as_tuple(value):
    return tuple(map(_as_tuple, value)) if isinstance(value, list) else value


def features_of(arrays: dict[str, Tensor], rows: int, num_classes: int) -> Features:
    """Features of tensors by name; `stages/0` is the first of the tuple `stages`. Logits that are not given are 0."""
    parts, fields = defaultdict(dict), {"logits": torch.zeros(rows, num_classes, dtype=torch.float64)}
    for key, tensor in arrays.items():
        name, _, place = key.partition("/")
        if place:
            parts[name][int(place)] = tensor
        else:
            fields[name] = tensor
    return Features(**fields, **{name: tuple(part[i] for i in range(len(part))) for name, part in parts.items()})


class Classifier(nn.Module):
    """A stand-in for a network of which a method reads the last layer only."""

    def __init__(self, weight: Tensor, bias: Tensor):
        super().__init__()
        self.last_linear = nn.Linear(weight.shape[1], weight.shape[0], dtype=weight.dtype)
        self.last_linear.load_state_dict({"weight": weight, "bias": bias})


def take_network(golden: GoldenFile, role: str, num_classes: int) -> Network | Classifier | None:
    """The network of `role` (student or teacher), its stand-in, or None where the file has neither."""
    if f"{role}_network/arch" in golden:
        state = golden.take_all(f"{role}_network/state")
        network = create_model(golden.take(f"{role}_network/arch"), num_classes, IMAGE_SIZE).double()
        load_known(network, state)
        return network
    layer = golden.take_all(f"{role}_classifier")
    return Classifier(**layer) if layer else None


def load_known(module: nn.Module, state: dict[str, Tensor]) -> None:
    """Load a part of a module's state; fails if the module lacks any of it."""
    unexpected = module.load_state_dict(state, strict=False).unexpected_keys
    assert not unexpected, f"{type(module).__name__} has no {', '.join(unexpected)}"


def set_up(method: Method, golden: GoldenFile, student: nn.Module | None, teacher: nn.Module | None) -> None:
    """Call the hooks before the first step for which the file has something, and load the method's state."""
    if student is not None or teacher is not None:
        method.inspect_networks(student, (teacher,))
    if "prepare/labels" in golden:
        method.prepare(golden.take("prepare/labels"))
    load_known(method, golden.take_all("parameters") | golden.take_all("buffers"))
    survey = golden.take_all("survey")
    if survey:
        labels = survey.pop("labels")
        with torch.no_grad():
            method.fit_on_training_set((features_of(survey, len(labels), int(labels.max()) + 1),), labels)


def plan_of(method: str, weights: Weights, kd_T: float, recipe: Recipe | None = None, **changes) -> RunPlan:
    """A plan of which only the loss weights, the temperature and the recipe matter here."""
    return RunPlan(
        kind="student",
        dataset="cifar100",
        model="resnet8",
        method=method,
        options={},
        weights=weights,
        kd_T=kd_T,
        teachers=(TeacherFile("resnet8", Path("teacher.pth"), "0" * 64),),
        recipe=recipe or RECIPES["repdistiller"],
        precision="fp32",
        trial=1,
        seed=1,
        **changes,
    )


def relative_error(found: Tensor, expected: Tensor) -> float:
    """The largest difference as a share of the largest expected number."""
    assert found.shape == expected.shape, f"shape {tuple(found.shape)} instead of {tuple(expected.shape)}"
    difference, scale = (found.detach().double() - expected).abs().max(), expected.abs().max()
    return float(difference / scale) if scale else float(difference)


def assert_agree(found: dict[str, Tensor], expected: dict[str, Tensor]) -> None:
    """Every expected array is found, with a relative error of at most TOLERANCE."""
    missing = expected.keys() - found.keys()
    assert not missing, f"not computed: {sorted(missing)}"
    errors = {key: relative_error(found[key], expected[key]) for key in expected}
    # Written so that NaN fails.
    wrong = {key: error for key, error in errors.items() if not error <= TOLERANCE}
    assert not wrong, f"relative errors above {TOLERANCE}: {wrong}"
