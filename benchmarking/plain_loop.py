"""The baseline of the measurements: a distillation loop as published repositories write it.

PIL images one by one through a DataLoader, float32, a copy to the device for each batch, the teacher's whole pass in
every run, an unfused optimizer, and accuracies and loss read back after every step.
"""

import contextlib
import time
from collections.abc import Iterator

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset, RandomSampler
from torchvision import transforms

from dataset import Batch, DatasetEntry
from distiller_zoo import Method
from distiller_zoo.kd import kd_loss
from engine.checkpoints.inference_network import InferenceNetwork
from engine.protocol.plan import RunPlan
from models import Features, Network

TRADITIONAL_WORKERS = 8
ENDLESS = 10**9  # samples; the loader repeats the training set
PREFETCH = 2  # batches that each worker of a DataLoader prepares ahead, by default


class PilImages(Dataset):
    """Data set over arrays, uint8 N×H×W×3 and int64 N; an item is (image 3×H×W, normalised; label; index)."""

    def __init__(self, images: np.ndarray, labels: np.ndarray, entry: DatasetEntry):
        self.images, self.labels = np.array(images), np.array(labels)
        steps = []
        if entry.crop_padding:
            steps.append(transforms.RandomCrop(entry.image_size, padding=entry.crop_padding))
        if entry.horizontal_flip:
            steps.append(transforms.RandomHorizontalFlip())
        steps += [transforms.ToTensor(), transforms.Normalize(entry.mean, entry.std)]
        self.transform = transforms.Compose(steps)

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, index: int) -> tuple[Tensor, int, int]:
        return self.transform(Image.fromarray(self.images[index])), int(self.labels[index]), index


class PlainInput:
    """Endless iterator of shuffled full batches on the host: images float32 B×3×H×W, labels and indices int64 B.

    The workers are started once. They prepare up to `queue` batches ahead, so a measurement depends on how many are
    queued when it starts; `at_work` empties the queue, and after `settling` seconds its length is steady.

    Args:
        workers: processes; 0 prepares the batches in this one.

    Attributes:
        settling: seconds of training after which the length of the queue is steady.
    """

    def __init__(self, images: np.ndarray, labels: np.ndarray, entry: DatasetEntry, batch_size: int, workers: int):
        dataset = PilImages(images, labels, entry)
        sampler = RandomSampler(dataset, num_samples=ENDLESS)
        self.queue = workers * PREFETCH
        self._batches = iter(DataLoader(dataset, batch_size, sampler=sampler, num_workers=workers, drop_last=True))
        self._drain()  # until the workers have started
        began = time.perf_counter()
        self._drain()
        self._refill = time.perf_counter() - began
        self.settling = 3 * self._refill  # training takes cores from the workers

    def __next__(self) -> list[Tensor]:
        return next(self._batches)

    def close(self) -> None:
        """Stop the workers."""
        self._batches = iter(())

    def _drain(self) -> None:
        for _ in range(self.queue):
            next(self._batches)

    @contextlib.contextmanager
    def at_work(self) -> Iterator[None]:
        """Context in which the plain loop runs, with the usual torch settings.

        The queue is emptied first: batches prepared while something else was measured would be free. At the end the
        workers get time to fill the queue, after which they sleep and do not disturb other measurements.
        """
        self._drain()
        tuned, deterministic = torch.backends.cudnn.benchmark, torch.are_deterministic_algorithms_enabled()
        torch.backends.cudnn.benchmark = True
        torch.use_deterministic_algorithms(False)
        try:
            yield
        finally:
            torch.backends.cudnn.benchmark = tuned
            torch.use_deterministic_algorithms(deterministic)
            time.sleep(2 * self._refill)


class PlainLoop:
    """One run in the plain loop; `step` is one step of it.

    Args:
        plan: gives weights, temperature and recipe.
        student: moved to the device and trained.
        method: on the device and prepared (`Method.prepare`); its parameters are trained too.
        teacher: on the device, frozen; None for a method without a teacher.
    """

    def __init__(
        self,
        plan: RunPlan,
        student: Network,
        method: Method,
        teacher: InferenceNetwork | None,
        source: PlainInput,
        device: torch.device,
    ):
        self.plan, self.teacher, self.source, self.device = plan, teacher, source, device
        self.student, self.method = student.to(device).train(), method.train()
        self.optimizer = _optimizer(plan, nn.ModuleList([self.student, self.method]))
        self.steps = 0

    def step(self) -> None:
        """One training step: input, teacher, student, losses, update, and reading back loss and accuracies."""
        images, labels, index = (part.to(self.device) for part in next(self.source))
        features = self.method.attach(self.student.features(images))
        smoothing = self.plan.recipe.label_smoothing
        loss = self.plan.weights.gamma * F.cross_entropy(features.logits, labels, label_smoothing=smoothing)
        if self.teacher is not None:
            batch = Batch(images, labels, index, None, epoch=1, step=self.steps, seed=self.plan.seed)
            loss = loss + self._distillation(features, batch)
        self.optimizer.zero_grad()
        loss.backward()
        self.optimizer.step()
        self.method.after_step()
        self.steps += 1
        loss.item()
        accuracies(features.logits, labels)

    def _distillation(self, features: Features, batch: Batch) -> Tensor:
        with torch.no_grad():
            taught = self.teacher.features(batch.images)
        weights = self.plan.weights
        kl = kd_loss(features.logits, taught.logits, self.plan.kd_T)  # always computed, whatever its weight
        own = self.method.losses(features, (taught,), batch)
        return weights.alpha * kl + weights.beta * sum(own.values())


def _optimizer(plan: RunPlan, modules: nn.Module) -> torch.optim.Optimizer:
    recipe = plan.recipe
    if recipe.optimizer == "adamw":
        return torch.optim.AdamW(modules.parameters(), recipe.learning_rate, weight_decay=recipe.weight_decay)
    return torch.optim.SGD(
        modules.parameters(), recipe.learning_rate, momentum=recipe.momentum, weight_decay=recipe.weight_decay
    )


def accuracies(logits: Tensor, labels: Tensor) -> list[float]:
    """Top-1 and top-5 accuracy in %, read back from the device; top-K for K < 5 classes."""
    order = logits.detach().topk(min(5, logits.shape[1])).indices
    hits = order == labels[:, None]
    return [100 * hits[:, :k].any(dim=1).float().mean().item() for k in (1, 5)]
