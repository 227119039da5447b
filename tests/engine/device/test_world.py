"""Two and three processes together do what one does alone: gathers, gradients, whole steps.

Each `check_…` runs on every rank and compares with what the rank computes by itself on the whole batch.
"""

from types import SimpleNamespace

import pytest
import torch
import torch.distributed as dist
import torch.nn.functional as F
from torch import nn

from common.errors import RequestError, RunError
from common.seeds import make_generator
from distiller_zoo import Pair, create_method
from engine.device import world as world_module
from engine.device.processes import process_group
from engine.device.sync_batchnorm import synchronise_batch_norm
from engine.device.world import World
from models import Features, create_model
from tests.engine.device.ranks import TOLERANCE, dtypes, run, sizes

# --- alone ----------------------------------------------------------------------------------------


def test_alone_everything_is_handed_back(monkeypatch):
    for name in ("RANK", "WORLD_SIZE", "LOCAL_RANK"):
        monkeypatch.delenv(name, raising=False)
    with process_group("cpu") as world:
        assert world == World()
        assert not dist.is_initialized()
    assert world.is_main
    images = torch.randn(4, 3, 2, 2).contiguous(memory_format=torch.channels_last)
    features = Features(images)
    assert world.shard(images) is world.gather(images, 4) is world.sum(images) is images
    assert world.gather_features(features, 4) is features
    assert [world.any(True), world.any(False)] == [True, False]
    norm = nn.BatchNorm2d(3)
    norm(images).sum().backward()
    before = norm.weight.grad.clone()
    world.average_gradients(norm.parameters())
    world.broadcast(norm)
    assert torch.equal(norm.weight.grad, before)
    assert type(synchronise_batch_norm(nn.Sequential(norm), world)[0]) is nn.BatchNorm2d


# --- gathers and other exchanges ------------------------------------------------------------------


def check_gathers(world):
    for total in range(1, 8):  # less than the ranks, unequal, equal
        for shape in ((), (5,), (3, 4), (3, 2, 4), (2, 1, 1)):
            for dtype in (torch.float64, torch.float32, torch.bfloat16, torch.int64):
                whole = torch.arange(total * torch.Size(shape).numel()).view(total, *shape).to(dtype)
                if len(shape) == 3:
                    whole = whole.contiguous(memory_format=torch.channels_last)
                piece = world.shard(whole)
                assert torch.equal(piece, whole.tensor_split(world.size)[world.rank])
                gathered = world.gather(piece, total)
                assert torch.equal(gathered, whole)
                assert gathered.dtype == dtype
                assert not gathered.requires_grad
                if len(shape) == 3:
                    assert gathered.is_contiguous(memory_format=torch.channels_last)
    # Strides may differ between ranks without mixing up the values.
    whole = torch.randn(7, 3, 2, 4, generator=torch.Generator().manual_seed(0))
    piece = world.shard(whole)
    if world.rank == 0:
        piece = piece.contiguous(memory_format=torch.channels_last)
    assert torch.equal(world.gather(piece, 7), whole)
    with pytest.raises(ValueError, match="7"):
        world.gather(whole, 7)


def check_gathered_features(world):
    whole = torch.randn(5, 4, 3, 3, generator=torch.Generator().manual_seed(0))
    piece = world.shard(whole)
    gathered = world.gather_features(Features(piece.flatten(1), stages=(piece, 2 * piece), preacts=None), 5)
    assert torch.equal(gathered.logits, whole.flatten(1))
    assert torch.equal(gathered.stages[1], 2 * whole)
    assert (gathered.embedding, gathered.preacts, gathered.blocks) == (None, None, ())


def check_exchanges(world):
    everyone = range(world.size)
    total = world.sum(torch.full((2, 3), float(world.rank + 1), dtype=torch.float64))
    assert torch.equal(total, torch.full((2, 3), float(sum(everyone) + world.size), dtype=torch.float64))
    assert [world.any(False), world.any(True)] == [False, True]
    for speaker in everyone:
        assert world.any(world.rank == speaker) is True

    def module(rank):
        torch.manual_seed(rank)
        made = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4)).to(memory_format=torch.channels_last)
        made.register_buffer("count", torch.tensor(rank))
        made.register_buffer("flags", torch.tensor([rank == 0, rank == 1]), persistent=False)
        return made

    mine, first = module(world.rank), module(0)
    world.broadcast(mine)
    for name, value in [*first.named_parameters(), *first.named_buffers()]:
        assert torch.equal(
            mine.get_parameter(name) if name in dict(mine.named_parameters()) else mine.get_buffer(name), value
        )
    assert mine[0].weight.is_contiguous(memory_format=torch.channels_last)


def check_errors_are_shared(world):
    def act(culprit):
        with world.shared_errors():
            if world.rank == culprit:
                raise RequestError("on purpose")

    act(culprit=None)
    for culprit in range(world.size):
        expected, said = (RequestError, "on purpose") if world.rank == culprit else (RunError, "another process")
        with pytest.raises(expected, match=said):
            act(culprit)
    assert not world.any(False)  # all are still in step


def check_averages(world):
    mean = (world.size - 1) / 2
    world_module.BUCKET_BYTES = 200  # several buckets, some of one tensor
    shapes = [(3,), (5, 2), (4, 3, 3, 3), (), (2, 2)]
    parameters = [nn.Parameter(torch.zeros(shape, dtype=d)) for shape in shapes for d in TOLERANCE]
    for number, p in enumerate(parameters):
        p.grad = torch.arange(p.numel(), dtype=p.dtype).view(p.shape) + number + world.rank
    parameters[4].grad = parameters[4].grad.contiguous(memory_format=torch.channels_last)
    parameters[3].grad = None
    before = [p.grad for p in parameters]
    world.average_gradients(p for p in [*parameters, parameters[0]])  # twice is harmless
    for number, p in enumerate(parameters):
        assert p.grad is before[number]  # in place
        if p.grad is not None:
            assert torch.equal(p.grad, torch.arange(p.numel(), dtype=p.dtype).view(p.shape) + number + mean)
    world.average_gradients([])


@pytest.mark.runs
@sizes
@pytest.mark.parametrize(
    "check", [check_gathers, check_gathered_features, check_exchanges, check_errors_are_shared, check_averages]
)
def test_exchanges(check, size):
    run(size, check)


# --- the gradient rule ----------------------------------------------------------------------------


def check_gradient_rule(world, dtype):
    """A network and a regressor of the loss, which couples all samples."""
    torch.manual_seed(0)
    network = nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.Flatten(), nn.Linear(36, 5)).to(dtype)
    regressor, unused = nn.Linear(5, 2).to(dtype), nn.Linear(2, 2).to(dtype)
    images, goal = torch.randn(7, 3, 5, 5, dtype=dtype), torch.randn(7, 2, dtype=dtype)
    images.requires_grad_()

    def loss_of(features):
        # A parameter of the network that the loss reads as well gets both parts of its gradient.
        wide = features @ network[3].weight
        return F.mse_loss(regressor(features), goal) + torch.cdist(features, wide[:, :5]).mean()

    modules = nn.ModuleList([network, regressor, unused])
    loss_of(network(images)).backward()
    expected = [p.grad for p in modules.parameters()]
    modules.zero_grad()
    loss_of(world.gather(network(world.shard(images)), 7)).backward()
    world.average_gradients(modules.parameters())
    for p, gradient in zip(modules.parameters(), expected, strict=True):
        if gradient is None:
            assert p.grad is None
        else:
            torch.testing.assert_close(p.grad, gradient, rtol=TOLERANCE[dtype], atol=TOLERANCE[dtype])


@pytest.mark.runs
@sizes
@dtypes
def test_gradient_rule(size, dtype):
    run(size, check_gradient_rule, dtype)


# --- whole steps ----------------------------------------------------------------------------------


NUM_SAMPLES, BATCH = 40, 11


def steps(world, method_name, dtype):
    """Two steps of SGD as the engine does them; the student and the method afterwards."""
    torch.manual_seed(0)
    student, teacher = (create_model("resnet8", 10, 8).to(dtype, memory_format=torch.channels_last) for _ in range(2))
    shapes = student.feature_shapes(), (teacher.eval().feature_shapes(),)
    options = {"nce_k": 8, "feat_dim": 16} if method_name == "crd" else {}
    method = create_method(method_name, Pair(*shapes, NUM_SAMPLES), options).to(dtype)
    images = torch.randn(NUM_SAMPLES, 3, 8, 8, dtype=dtype).contiguous(memory_format=torch.channels_last)
    labels = torch.arange(NUM_SAMPLES) % 10
    method.prepare(labels)
    synchronise_batch_norm(student, world)
    world.broadcast(student)
    world.broadcast(method)
    parameters = [*student.parameters(), *method.parameters()]
    optimizer = torch.optim.SGD(parameters, lr=0.05, momentum=0.9)
    for step in range(2):
        index = torch.randperm(NUM_SAMPLES, generator=make_generator(0, "order", step))[:BATCH]
        batch = SimpleNamespace(
            index=index, labels=labels[index], generator=lambda purpose, step=step: make_generator(0, purpose, step)
        )
        piece = world.shard(images[index])
        with torch.no_grad():
            seen = world.gather_features(teacher.features(piece), BATCH)
        features = world.gather_features(method.attach(student.features(piece)), BATCH)
        loss = F.cross_entropy(features.logits, batch.labels)
        loss = loss + sum(method.losses(features, (seen,), batch).values())
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        world.average_gradients(parameters)
        optimizer.step()
        method.after_step()
    return nn.ModuleList([student, method])


def check_steps(world, method_name, dtype):
    together, alone = steps(world, method_name, dtype), steps(World(), method_name, dtype)
    assert list(together.state_dict()) == list(alone.state_dict())
    expected = alone.state_dict()
    for name, value in together.state_dict().items():
        torch.testing.assert_close(
            value,
            expected[name],
            rtol=10 * TOLERANCE[dtype],
            atol=10 * TOLERANCE[dtype],
            msg=lambda m, n=name: f"{n}: {m}",
        )
        # All ranks hold the same bits.
        copies = world.gather(value.reshape(1, -1), world.size)
        assert (copies == copies[0]).all(), name


@pytest.mark.runs
@sizes
@dtypes
@pytest.mark.parametrize("method", ["crd", "similarity", "rkd", "hint"])
def test_steps(method, size, dtype):
    """hint trains a regressor with batch normalisation of its own, on the whole batch."""
    run(size, check_steps, method, dtype)


# --- agreement ------------------------------------------------------------------------------------


def check_agreement(world):
    assert world.agree("the same")
    assert not world.agree(f"of rank {world.rank}")
    assert not world.agree("odd" if world.rank == world.size - 1 else "even")


@pytest.mark.runs
def test_processes_agree_on_a_text():
    run(2, check_agreement)


def test_one_process_agrees_with_itself():
    assert World().agree("anything")
