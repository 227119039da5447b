"""Cost of a method without the networks: time, memory and parameters of its losses on precomputed features."""

from dataclasses import fields, replace

import torch
from torch import Tensor

from benchmarking.peak import peak_bytes
from benchmarking.rounds import Step
from common.seeds import derive_seed, isolated_seed
from dataset import Batch
from distiller_zoo import Method, Pair, create_method, method_class
from models import Features, create_model
from models.network import count_parameters

CLASSES, PIXELS, IMAGES = 100, 32, 50_000  # CIFAR-100
EPOCH = 1000  # past every warm-up
SEED = 1


class PreparedPair:
    """Teacher and student with random weights, and their features of random images; shared by all methods.

    Args:
        batch_size: images per step; features are computed for twice as many, for methods with two views.
    """

    def __init__(self, teacher: str, student: str, batch_size: int, device: torch.device):
        with isolated_seed(derive_seed(SEED, "networks")):
            self.student, self.teacher = (create_model(name, CLASSES, PIXELS) for name in (student, teacher))
            images = torch.randn(2 * batch_size, 3, PIXELS, PIXELS)
            index = torch.randperm(IMAGES)[:batch_size].repeat(2)
        self.shapes = [network.to(device).feature_shapes() for network in (self.student, self.teacher)]
        # In training mode, because without batch-norm statistics the features of deep networks would overflow.
        with torch.no_grad():
            self.features = [network.features(images.to(device)) for network in (self.student, self.teacher)]
        self.student.eval()
        self.teacher.eval()
        labels = (index % CLASSES).to(device)
        self.batch = Batch(images.to(device), labels, index.to(device), None, EPOCH, 0, SEED)
        self.batch_size, self.device = batch_size, device


class MethodCost:
    """A method on a pair, at CIFAR-100's sizes.

    Raises:
        RequestError: the method refuses the pair.
    """

    def __init__(self, name: str, pair: PreparedPair):
        taught = method_class(name).max_teachers > 0
        student, *teachers = pair.shapes if taught else pair.shapes[:1]
        with isolated_seed(derive_seed(SEED, name)):
            self.method: Method = create_method(name, Pair(student, tuple(teachers), IMAGES))
            self.method.inspect_networks(pair.student, (pair.teacher,) if taught else ())
            self.method.to(pair.device)
            self.method.prepare((torch.arange(IMAGES) % CLASSES).to(pair.device))
        rows = pair.batch_size * self.method.views
        seen = [features.first(rows) for features in pair.features]
        self.student, self.teachers = _leaves(seen[0], True), (_leaves(seen[1], False),) if taught else ()
        self.networks = (pair.student, pair.teacher)  # some methods read them at each step
        self.batch = pair.batch.first(rows)
        if self.method.needs_training_set_pass:
            with torch.no_grad():
                self.method.fit_on_training_set(self.teachers, self.batch.labels)

    def step(self, initial: bool = False) -> None:
        """Heads, losses, their gradients, and the update after the optimizer's step."""
        if initial:
            student = self.student if self.method.initial_trains_student else None
            losses = self.method.initial_losses(*self.method.declared_inputs(student, self.teachers), self.batch)
        else:
            losses = self.method.own_losses(self.method.attach(self.student), self.teachers, self.batch)
        if losses:
            total = torch.stack(list(losses.values())).sum()
            if total.requires_grad:
                total.backward()
        self.method.after_step()
        self._forget_gradients()

    def initial_step(self) -> None:
        """One step of the initial stage."""
        self.step(initial=True)

    def steps(self) -> dict[str, Step]:
        """Step of each of the method's stages, by name."""
        return {"main": self.step} | ({"initial": self.initial_step} if self.method.initial_epochs else {})

    def _forget_gradients(self) -> None:
        for tensor in _tensors(self.student):
            tensor.grad = None
        for module in (self.method, *self.networks):
            module.zero_grad(set_to_none=True)

    def peak_mib(self, step: Step) -> float:
        """Peak memory of the tensors that a step creates, including those that autograd keeps, in MiB."""
        return peak_bytes(step, self.batch.images.device) / 2**20

    @property
    def parameters(self) -> int:
        """Number of trained parameters of the method."""
        return count_parameters(self.method)

    @property
    def state_mib(self) -> float:
        """Memory of the method's buffers (memories, queues), in MiB."""
        return sum(buffer.nbytes for buffer in self.method.buffers()) / 2**20


def _leaves(features: Features, trained: bool) -> Features:
    def leaf(value):
        if isinstance(value, Tensor):
            return value.detach().clone().requires_grad_(trained)
        return None if value is None else tuple(map(leaf, value))

    return replace(features, **{f.name: leaf(getattr(features, f.name)) for f in fields(features)})


def _tensors(value) -> list[Tensor]:
    if isinstance(value, Tensor):
        return [value]
    if isinstance(value, Features):
        value = [getattr(value, f.name) for f in fields(value)]
    return [] if value is None else [tensor for part in value for tensor in _tensors(part)]
