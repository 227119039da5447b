"""Two and three processes together do what one does alone: gathers, gradients, batch normalisation, whole steps.

Each `check_…` runs on every rank and compares with what the rank computes by itself on the whole batch.
"""

import multiprocessing
import os
import time
import traceback
from contextlib import suppress
from copy import deepcopy
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
from engine.device.sync_batchnorm import SyncBatchNorm, synchronise_batch_norm
from engine.device.world import World
from models import Features, create_model

TOLERANCE = {torch.float64: 1e-10, torch.float32: 1e-5}
sizes = pytest.mark.parametrize("size", [2, 3])
dtypes = pytest.mark.parametrize("dtype", list(TOLERANCE), ids=["float64", "float32"])


# --- processes ------------------------------------------------------------------------------------


def run(size, check, *arguments, seconds=60):
    """`check(world, *arguments)` in `size` processes; fails with the tracebacks of the ranks where it does."""
    # The server imports torch once and forks every process from there, which takes no time.
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["torch._dynamo", "engine.device.sync_batchnorm"])
    # As under torchrun the starter holds the store in which the processes meet; port 0 is any that is free.
    store = dist.TCPStore("127.0.0.1", 0, is_master=True, wait_for_workers=False)
    processes, pipes = [], []
    try:
        for rank in range(size):
            pipe, far_end = context.Pipe()
            process = context.Process(target=_rank, args=(far_end, rank, size, store.port, check, arguments))
            process.start()
            far_end.close()
            processes.append(process)
            pipes.append(pipe)
        deadline = time.monotonic() + seconds
        reports = [_report(*pair, deadline) for pair in zip(processes, pipes, strict=True)]
    finally:
        for process in processes:
            process.kill()
            process.join()
    failed = [f"rank {rank}: {report}" for rank, report in enumerate(reports) if report]
    if failed:
        pytest.fail("\n".join(failed), pytrace=False)


def _report(process, pipe, deadline):
    if not pipe.poll(max(0, deadline - time.monotonic())):
        return "did not end"
    with suppress(EOFError):
        return pipe.recv()
    process.join()
    return f"died with exit code {process.exitcode}"


def _rank(pipe, rank, size, port, check, arguments):
    """One process: the environment that torchrun would give it, the check, and a report of how it went."""
    torch.set_num_threads(1)
    os.environ |= {"RANK": str(rank), "WORLD_SIZE": str(size), "LOCAL_RANK": str(rank)}
    os.environ |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
    os.environ |= {"TORCHELASTIC_USE_AGENT_STORE": "True", "TORCHELASTIC_RESTART_COUNT": "0"}
    report = None
    try:
        with process_group("cpu") as world:
            assert world == World(rank, size)
            check(world, *arguments)
    except BaseException:
        report = traceback.format_exc()
    assert not dist.is_initialized()  # left on success and on failure
    pipe.send(report)


def fail_on_last_rank(world, die):
    if world.rank == world.size - 1:
        if die:
            os._exit(7)
        raise ArithmeticError("on purpose")
    world.any(False)


@pytest.mark.parametrize(("die", "said"), [(False, "ArithmeticError: on purpose"), (True, "died with exit code 7")])
def test_failure_of_one_rank_ends_all(die, said):
    with pytest.raises(pytest.fail.Exception) as failure:
        run(2, fail_on_last_rank, die)
    assert f"rank 1: {'died' if die else 'Traceback'}" in str(failure.value)
    assert said in str(failure.value)
    assert "did not end" not in str(failure.value)


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


def environment(monkeypatch, **values):
    for name in ("RANK", "WORLD_SIZE", "LOCAL_RANK", "MASTER_ADDR", "MASTER_PORT", "TORCHELASTIC_USE_AGENT_STORE"):
        monkeypatch.delenv(name, raising=False)
    for name, value in values.items():
        monkeypatch.setenv(name, value)


@pytest.mark.parametrize(
    "values", [{"RANK": "0", "WORLD_SIZE": "1", "LOCAL_RANK": "0"}, {"RANK": "0", "WORLD_SIZE": "2"}]
)
def test_one_process_or_another_starter_is_alone(values, monkeypatch):
    environment(monkeypatch, **values)
    with process_group("cpu") as world:
        assert world == World()
        assert not dist.is_initialized()


REFUSALS = [
    ("cpu", {"RANK": "one", "WORLD_SIZE": "2", "LOCAL_RANK": "1"}, "RANK=one, WORLD_SIZE=2"),
    ("cpu", {"RANK": "1", "WORLD_SIZE": "2", "LOCAL_RANK": "1"}, "start them all with torchrun"),  # no MASTER_ADDR
    ("cuda", {"RANK": "1", "WORLD_SIZE": "2", "LOCAL_RANK": "1"}, "--nproc_per_node 1"),
]


@pytest.mark.parametrize(("device", "values", "said"), REFUSALS)
def test_refusals(device, values, said, monkeypatch):
    environment(monkeypatch, **values)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    with pytest.raises(RequestError, match=said), process_group(device):
        pass
    assert not dist.is_initialized()


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
    with pytest.raises(ValueError, match="of 7 rows"):
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


@sizes
@dtypes
def test_gradient_rule(size, dtype):
    run(size, check_gradient_rule, dtype)


# --- batch normalisation --------------------------------------------------------------------------

SHAPES = [(8, 3), (7, 3, 5), (7, 3, 4, 2), (2, 3, 2, 2), (1, 3, 2, 2)]  # the last two leave ranks without a row
OPTIONS = [{}, {"momentum": None}, {"momentum": 0.3, "eps": 0.1}, {"affine": False}, {"track_running_stats": False}]


def normalise_everywhere(world, options, shape, dtype):
    """The same by nn.BatchNorm on the whole batch and by ours on pieces of it: training, then evaluation."""
    close = {"rtol": TOLERANCE[dtype], "atol": TOLERANCE[dtype]}
    torch.manual_seed(0)
    plain = (nn.BatchNorm2d if len(shape) == 4 else nn.BatchNorm1d)(shape[1], **options).to(dtype)
    for p in plain.parameters():
        nn.init.normal_(p)
    ours = synchronise_batch_norm(nn.Sequential(deepcopy(plain)), world)[0]
    assert isinstance(ours, SyncBatchNorm)
    for _ in range(3):  # running statistics move on
        whole = (3 * torch.randn(shape, dtype=dtype) + 2).requires_grad_()
        if len(shape) == 4:
            whole = whole.detach().contiguous(memory_format=torch.channels_last).requires_grad_()
        weights = torch.randn(shape, dtype=dtype)
        expected = plain(whole)
        (expected * weights).sum().backward()
        gradient, whole.grad = whole.grad, None
        piece = ours(world.shard(whole))
        assert piece.is_contiguous(memory_format=torch.channels_last) or len(shape) != 4
        torch.testing.assert_close(piece, world.shard(expected), **close)
        (world.gather(piece, shape[0]) * weights).sum().backward()
        torch.testing.assert_close(world.shard(whole.grad) / world.size, world.shard(gradient), **close)
    world.average_gradients(ours.parameters())
    for mine, other in zip(ours.parameters(), plain.parameters(), strict=True):
        torch.testing.assert_close(mine.grad, other.grad, **close)
    state = ours.state_dict()
    assert list(state) == list(plain.state_dict())
    for name, value in plain.state_dict().items():
        torch.testing.assert_close(state[name], value, **close)
    ours.load_state_dict(plain.state_dict())
    if world.is_main:  # in evaluation nobody waits for the others
        assert torch.equal(ours.eval()(whole), plain.eval()(whole))


def check_batch_norm(world, dtype):
    for options in OPTIONS:
        for shape in SHAPES:
            normalise_everywhere(world, options, shape, dtype)


@sizes
@dtypes
def test_batch_norm(size, dtype):
    run(size, check_batch_norm, dtype)


def check_batch_norm_corners(world):
    torch.manual_seed(0)
    # Far from zero the difference of two sums of float32 would leave nothing of the variance.
    whole = 1000 + torch.randn(9, 2, 4, 4)
    exact = nn.BatchNorm2d(2).double()(whole.double())
    ours = synchronise_batch_norm(nn.Sequential(nn.BatchNorm2d(2)), world)[0]
    torch.testing.assert_close(ours(world.shard(whole)).double(), world.shard(exact), rtol=0, atol=1e-3)
    # Under autocast: bf16 in and out, statistics and parameters in float32.
    low = torch.randn(9, 2, 4, 4).bfloat16().requires_grad_()
    plain, ours = nn.BatchNorm2d(2), synchronise_batch_norm(nn.Sequential(nn.BatchNorm2d(2)), world)[0]
    with torch.autocast("cpu", dtype=torch.bfloat16):
        expected, piece = plain(low), ours(world.shard(low))
    assert piece.dtype == expected.dtype == torch.bfloat16
    torch.testing.assert_close(piece, world.shard(expected))
    torch.testing.assert_close(ours.running_var, plain.running_var)
    expected.float().pow(3).sum().backward()
    gradient, low.grad = low.grad, None
    world.gather(piece.float(), 9).pow(3).sum().backward()
    torch.testing.assert_close(world.shard(low.grad) / world.size, world.shard(gradient), rtol=0.02, atol=0.02)
    # One value for each channel, though no rank but one can see it.
    with pytest.raises(ValueError, match="one value"):
        ours(world.shard(torch.randn(1, 2, 1, 1)))
    # A layer in two places stays one layer, and none is left out.
    shared = nn.BatchNorm1d(3)
    nested = synchronise_batch_norm(
        nn.Sequential(shared, nn.ModuleDict({"again": shared, "own": nn.BatchNorm2d(3)})), world
    )
    assert nested[0] is nested[1]["again"]
    assert nested[0].weight is shared.weight
    assert all(isinstance(norm, SyncBatchNorm) for norm in (nested[0], nested[1]["own"]))


@sizes
def test_batch_norm_corners(size):
    run(size, check_batch_norm_corners)


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


@sizes
@dtypes
@pytest.mark.parametrize("method", ["crd", "similarity", "rkd", "hint"])
def test_steps(method, size, dtype):
    """hint trains a regressor with batch normalisation of its own, on the whole batch."""
    run(size, check_steps, method, dtype)
