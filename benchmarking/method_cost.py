"""What a method costs beside the networks: time, memory and parameters of its losses on features that lie ready."""

from dataclasses import fields, replace

import torch
from torch import Tensor

from benchmarking.peak import peak_bytes
from benchmarking.timing import Step
from common.seeds import derive_seed, isolated_seed
from dataset import Batch
from distiller_zoo import METHODS, Method, Pair, create_method
from engine.cost import count_parameters
from models import Features, create_model

CLASSES, PIXELS, IMAGES = 100, 32, 50_000  # CIFAR-100
EPOCH = 1000  # past every warm-up
SEED = 1


class MethodCost:
    """A method on a pair with random weights, at CIFAR-100's sizes.

    Args:
        batch_size: images a step; a method with two views sees twice as many rows.

    Raises:
        RequestError: the method refuses the pair.
    """

    def __init__(self, name: str, teacher: str, student: str, batch_size: int, device: torch.device):
        with isolated_seed(derive_seed(SEED, name)):
            networks = [create_model(model, CLASSES, PIXELS).eval() for model in (student, teacher)]
            taught = METHODS[name].max_teachers > 0
            shapes = [network.feature_shapes() for network in networks]
            self.method: Method = create_method(name, Pair(shapes[0], tuple(shapes[1:] if taught else ()), IMAGES))
            self.method.meet(networks[0], tuple(networks[1:] if taught else ()))
            rows = batch_size * self.method.views
            images = torch.randn(rows, 3, PIXELS, PIXELS)
            for network in networks:
                network.to(device)
            self.method.to(device)
            self.method.prepare((torch.arange(IMAGES) % CLASSES).to(device))
            index = torch.randperm(IMAGES)[:batch_size].repeat(self.method.views)
        with torch.no_grad():
            seen = [network.features(images.to(device)) for network in networks]
        self.student, self.teachers = _leaves(seen[0], True), (_leaves(seen[1], False),) if taught else ()
        self.networks = networks  # some methods look into them at each step
        self.batch = Batch(images.to(device), (index % CLASSES).to(device), index.to(device), None, EPOCH, 0, SEED)

    def step(self, initial: bool = False) -> None:
        """Heads, losses, their gradients, and what comes after the optimizer."""
        student = self.student
        if not initial:
            attached = self.method.attach(student)
            reads = self.method.reads_of_student()
            losses = self.method.own_losses(attached.only(reads), self._taught(), self.batch)
        else:
            seen = student.only(self.method.reads_of_student()) if self.method.initial_trains_student else None
            losses = self.method.initial_losses(seen, self._taught(), self.batch)
        if losses:
            total = torch.stack(list(losses.values())).sum()
            if total.requires_grad:
                total.backward()
        self.method.after_step()
        self._forget_gradients()

    def initial_step(self) -> None:
        """The same of the initial stage."""
        self.step(initial=True)

    def steps(self) -> dict[str, Step]:
        """The stages that the method has, by name."""
        return {"main": self.step} | ({"initial": self.initial_step} if self.method.initial_epochs else {})

    def _taught(self) -> tuple[Features, ...]:
        return tuple(teacher.only(self.method.reads_of_teacher()) for teacher in self.teachers)

    def _forget_gradients(self) -> None:
        for tensor in _tensors(self.student):
            tensor.grad = None
        for module in (self.method, *self.networks):
            module.zero_grad(set_to_none=True)

    def peak_mib(self, step: Step) -> float:
        """Most memory of tensors that a step makes, those that autograd keeps included; MiB."""
        return peak_bytes(step, self.batch.images.device) / 2**20

    @property
    def parameters(self) -> int:
        return count_parameters(self.method)

    @property
    def state_mib(self) -> float:
        """Of memories, queues and the like."""
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
