"""What the suite is measured against: a distillation loop as published repositories write it.

PIL images one by one through a DataLoader, float32, a new copy to the device for each batch, the teacher's whole pass
in every run, an optimizer that is not fused, and accuracies and loss read back after every step.
"""

import contextlib
import copy
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
from distiller_zoo import Method, Pair
from distiller_zoo.crd import CRD, EPS
from distiller_zoo.kd import kd_loss
from engine.checkpoints.inference_network import InferenceNetwork
from engine.protocol.plan import RunPlan
from models import Network

TRADITIONAL_WORKERS = 8
ENDLESS = 10**9  # samples; the loader goes through the training set again and again
PREFETCH = 2  # batches that each worker of a DataLoader prepares ahead, by default


class PilImages(Dataset):
    """A training set kept as arrays, uint8 N×H×W×3 and int64 N; an item is (3×H×W normalised, label, index)."""

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

    def __getitem__(self, index: int):
        return self.transform(Image.fromarray(self.images[index])), int(self.labels[index]), index


class PlainInput:
    """Shuffled full batches without end: images float32 B×3×H×W, labels and indices int64 B, all on the host.

    The workers are started once. They prepare up to `queue` batches ahead, so what is in the queue when a clock
    starts decides what it shows; `at_work` and `settling` see to that.

    Args:
        workers: processes; 0 prepares the batches in this one.

    Attributes:
        settling: seconds of training after which the queue is as long as it will stay.
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
        """End the workers."""
        self._batches = iter(())

    def _drain(self) -> None:
        for _ in range(self.queue):
            next(self._batches)

    @contextlib.contextmanager
    def at_work(self) -> Iterator[None]:
        """A block in which the plain loop runs, with torch's settings as the tradition has them.

        The queue is empty at its start: batches made ahead while something else was measured would be free. At its
        end the workers get the time to fill the queue, after which they sleep and disturb no other measurement.
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


class PlainCrd(Method):
    """CRD by gathered vectors: B×(K+1)×D numbers of each memory for every batch.

    Negatives are drawn on the device, with replacement, from all images. Published code draws them without replacement
    from the images of other classes, one sample after the other in the workers, which takes longer.

    Args:
        crd: the suite's; its layers, memories and options are copied.
        labels: int64 N, of the training set.
    """

    name = "crd"
    needs = CRD.needs

    def __init__(self, pair: Pair, crd: CRD, labels: Tensor):
        super().__init__(pair)
        self.embed_s, self.embed_t = copy.deepcopy(crd.embed_s), copy.deepcopy(crd.embed_t)
        self.register_buffer("bank_s", crd.memory_s.bank.clone())
        self.register_buffer("bank_t", crd.memory_t.bank.clone())
        self.num_samples, self.temperature, self.momentum = pair.num_samples, crd.temperature, crd.momentum
        self.k = min(crd.nce_k, len(labels) - int(torch.bincount(labels).max()))
        self.z: list[float | None] = [None, None]  # of each memory, set by its first batch

    def loss(self, student, teacher, batch):
        shape = (len(batch.index), self.k + 1)
        chosen = torch.randint(self.num_samples, shape, device=batch.index.device)
        chosen[:, 0] = batch.index
        return self.contrast(student.embedding, teacher.embedding, chosen)

    def contrast(self, embedding_s: Tensor, embedding_t: Tensor, chosen: Tensor) -> Tensor:
        """The loss of both sides; moves the memories.

        Args:
            embedding_s, embedding_t: B×D of the two networks.
            chosen: int64 B×(K+1), indices into the training set, the sample itself in column 0.
        """
        v_s, v_t = F.normalize(self.embed_s(embedding_s)), F.normalize(self.embed_t(embedding_t))
        loss = self._side(0, v_s, self.bank_t, chosen) + self._side(1, v_t, self.bank_s, chosen)
        for bank, v in ((self.bank_s, v_s), (self.bank_t, v_t)):
            self._update(bank, chosen[:, 0], v.detach())
        return loss

    def _side(self, side: int, anchors: Tensor, bank: Tensor, chosen: Tensor) -> Tensor:
        gathered = bank.index_select(0, chosen.flatten()).view(*chosen.shape, -1)  # B×(K+1)×D
        scores = (torch.bmm(gathered, anchors.unsqueeze(2)).squeeze(2) / self.temperature).exp()
        if self.z[side] is None:
            self.z[side] = scores.mean().item() * self.num_samples
        p = scores / self.z[side]
        noise = self.k / self.num_samples
        positive = (p[:, 0] / (p[:, 0] + noise + EPS)).log()
        negative = (noise / (p[:, 1:] + noise + EPS)).log()
        return -(positive.sum() + negative.sum()) / len(p)

    @torch.no_grad()
    def _update(self, bank: Tensor, index: Tensor, embedding: Tensor) -> None:
        rows = self.momentum * bank.index_select(0, index) + (1 - self.momentum) * embedding
        bank.index_copy_(0, index, F.normalize(rows))


class PlainLoop:
    """One run in the plain loop; `step` is one step of it.

    Args:
        plan: what is trained; gives weights, temperature and recipe.
        method: its losses, in float32; it is moved to the device and trained, as the student is.
        teacher: on the device, frozen; None where the method has none.
    """

    def __init__(
        self,
        plan: RunPlan,
        student: Network,
        method: Method,
        teacher: InferenceNetwork | None,
        source: PlainInput,
        labels: Tensor,
        device: torch.device,
    ):
        self.plan, self.teacher, self.source, self.device = plan, teacher, source, device
        self.student, self.method = student.to(device).train(), method.to(device).train()
        self.method.prepare(labels.to(device))
        self.optimizer = _optimizer(plan, nn.ModuleList([self.student, self.method]))
        self.steps = 0

    def step(self) -> None:
        """Input, teacher, student, losses, update, and reading back what is logged."""
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

    def _distillation(self, features, batch: Batch) -> Tensor:
        with torch.no_grad():
            taught = self.teacher.features(batch.images)
        weights = self.plan.weights
        kl = kd_loss(features.logits, taught.logits, self.plan.kd_T)  # always, whatever its weight
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
    """Top-1 and top-5 accuracy in percent (top-K where there are K < 5 classes), each read back from the device."""
    order = logits.detach().topk(min(5, logits.shape[1])).indices
    hits = order == labels[:, None]
    return [100 * hits[:, :k].any(dim=1).float().mean().item() for k in (1, 5)]
