"""Every loss, gradient and memory against what the authors' own code computes (see tests/golden/README.md)."""

from dataclasses import dataclass, replace

import pytest
import torch

from distiller_zoo import METHODS, Method, Pair, Weights, create_method
from distiller_zoo.mine import StatisticsNetwork, information_bound
from engine.protocol.recipes import RECIPES
from engine.training.loss import training_loss
from engine.training.optimizer import make_optimizer
from models import Features
from tests import golden_cases as gold

# Methods without published code of their form; a new method needs no golden numbers either.
UNCOVERED = {"none", "token_bridge", "crd_batch"}
NUM_FILES, NUM_METHODS = 130, 46  # at least
NUM_CLASSES = 100  # of the networks of a trajectory
# Folders of a file that are for its reader. `draws/order` of the bound of MINE is an input, and taken before.
NOT_COMPARED = ("draws", "info")


def test_no_file_is_missing_and_each_names_a_method_of_the_suite():
    names = [*gold.STEPS, *gold.TRAJECTORIES]
    covered = {gold.GoldenFile(name).take("method") for name in names}
    assert len(names) >= NUM_FILES
    assert len(covered) >= NUM_METHODS
    assert covered <= set(METHODS)
    assert set(METHODS) >= UNCOVERED, "UNCOVERED names a method that is gone"
    assert not covered & UNCOVERED, "UNCOVERED names a method that has golden numbers"


@pytest.mark.parametrize("name", gold.STEPS)
def test_one_step(name):
    golden = gold.GoldenFile(name)
    assert golden.take("source")
    assert golden.take("note")
    term = golden.take("term")
    found = bound_of_mine(golden) if term == "mine" else step_of(golden, term)
    expected = golden.take_all("expected")
    assert "loss" in expected
    gold.assert_agree(found, expected)
    assert_other_gradients_vanish(found, expected)
    for folder in NOT_COMPARED:
        golden.take_all(folder)
    golden.assert_all_taken()


def assert_other_gradients_vanish(found, expected):
    """A gradient of the student that the file does not have is zero but for rounding."""
    largest = max(value.abs().max() for key, value in expected.items() if key.startswith("grad/"))
    for key in found.keys() - expected.keys():
        if key.startswith("grad/student"):
            assert found[key].abs().max() <= gold.TOLERANCE * largest, key


@dataclass
class Step:
    """What one loss is computed from."""

    method: Method
    student: Features
    teacher: Features
    batch: gold.GoldenBatch
    golden: gold.GoldenFile


def step_of(golden, term):
    """Loss, gradients, buffers and logits of one step, by the keys of `expected/…`."""
    pair, batch = gold.take_pair(golden), gold.take_batch(golden)
    rows, classes = len(batch.labels), pair.student.num_classes
    networks = [gold.take_network(golden, role, classes) for role in ("student", "teacher")]
    inputs = {key: value.requires_grad_() for key, value in golden.take_all("student").items()}
    student = gold.features_of(inputs, rows, classes)
    teacher = gold.features_of(golden.take_all("teacher"), rows, pair.teacher.num_classes)
    method = method_of(golden, golden.take("method"), pair, *networks)
    method.train(bool(golden.take("training")))
    method.logit_standardization = bool(golden.take("logit_standardization"))
    loss, logits = TERMS[term](Step(method, student, teacher, batch, golden))
    loss.backward()
    method.after_step()
    leaves = named_leaves(student=inputs, parameters=method, student_classifier=last_layer(networks[0]))
    return {"loss": loss, "logits": logits, **gradients(leaves), **buffers(method)}


def method_of(golden, name, pair, student, teacher):
    """The method as its file describes it, in float64 and in training mode."""
    torch.manual_seed(0)
    method = create_method(name, pair, golden.take_json("options")).double()
    gold.set_up(method, golden, student, teacher)
    return method.train()


def own(step):
    """The method's own losses, unweighted."""
    return sum(step.method.own_losses(step.student, (step.teacher,), step.batch).values()), step.student.logits


def initial(step):
    """The losses of the method's initial stage."""
    return sum(step.method.initial_losses(step.student, (step.teacher,), step.batch).values()), step.student.logits


def attached(step):
    """The method's own losses of a student that the method extends."""
    return own(replace(step, student=step.method.attach(step.student)))


def kl(step):
    """The KL to the teacher alone, as the engine computes it."""
    kd_T, standardise = float(step.golden.take("temperature")), step.method.logit_standardization
    plan = gold.plan_of(step.method.name, Weights(0, 1, 0), kd_T, logit_standardization=standardise)
    _, total = training_loss(plan, step.method, None, step.student, (step.teacher,), step.batch)
    return total, step.student.logits


TERMS = {"own": own, "initial": initial, "attached": attached, "kl": kl}


def bound_of_mine(golden):
    """The bound on mutual information and its gradients."""
    assert golden.take("method") == "std"
    assert golden.take_json("options") == {}
    assert golden.take("training")
    assert not golden.take("logit_standardization")
    inputs = {key: value.requires_grad_() for key, value in golden.take_all("student").items()}
    spatial, channel = inputs["tokens/spatial"], inputs["tokens/channel"]
    network = StatisticsNetwork(spatial.shape[1], channel.shape[1]).double()
    network.load_state_dict(golden.take_all("parameters"))
    loss = information_bound(network, spatial, channel, golden.take("draws/order"))
    loss.backward()
    return {"loss": loss, **gradients(named_leaves(student=inputs, parameters=network))}


def last_layer(network):
    """The parameters of a stand-in's classifier by name."""
    return dict(network.last_linear.named_parameters()) if isinstance(network, gold.Classifier) else {}


def named_leaves(**groups):
    """What gradients are taken of, by GROUP/NAME; a group is a module or a dictionary."""
    pairs = {g: v if isinstance(v, dict) else dict(v.named_parameters()) for g, v in groups.items()}
    return {f"{group}/{name}": leaf for group, leaves in pairs.items() for name, leaf in leaves.items()}


def gradients(leaves):
    return {f"grad/{key}": leaf.grad for key, leaf in leaves.items() if leaf.grad is not None}


def buffers(method):
    return {f"buffers/{name}": buffer for name, buffer in method.named_buffers()}


@pytest.mark.runs
@pytest.mark.parametrize("name", gold.TRAJECTORIES)
def test_ten_steps(name):
    golden = gold.GoldenFile(name)
    assert golden.take("source")
    assert golden.take("note")
    plan, num_steps, normalised = take_plan(golden)
    batches = take_batches(golden, normalised)
    student, teacher = (gold.take_network(golden, role, NUM_CLASSES) for role in ("student", "teacher"))
    pair = Pair(student.feature_shapes(), (teacher.feature_shapes(),), int(golden.take("num_samples")))
    method = method_of(golden, plan.method, pair, student, teacher)
    losses = train(plan, method, student, teacher, [batches[i % len(batches)] for i in range(num_steps)])
    found = {"losses": torch.stack(losses)}
    found |= {f"student/{key}": value for key, value in student.state_dict().items()}
    found |= {f"method/{key}": value for key, value in method.state_dict().items()}
    expected = golden.take_all("expected")
    assert expected.keys() >= {"losses", *(f"student/{key}" for key in student.state_dict())}
    gold.assert_agree(found, expected)
    golden.assert_all_taken()


def train(plan, method, student, teacher, batches):
    """RepDistiller's loop with the suite's loss and optimizer; the total loss of each step."""
    optimizer, losses = make_optimizer(plan.recipe, [student, method]), []
    student.train()
    method.train()
    teacher.eval()
    for batch in batches:
        with torch.no_grad():
            taught = teacher.features(batch.images)
        features = method.attach(student.features(batch.images))
        _, loss = training_loss(plan, method, None, features, (taught,), batch)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        method.after_step()
        losses.append(loss.detach())
    return losses


def take_plan(golden):
    """The plan, the number of steps, and what normalises images; an unknown value of the recipe is an error."""
    values = golden.take_json("recipe")
    num_steps, kd_T = values.pop("steps"), values.pop("kd_T")
    weights = Weights(**{name: values.pop(name) for name in ("gamma", "alpha", "beta")})
    mean, std = (torch.tensor(values.pop(name), dtype=torch.float64) for name in ("mean", "std"))
    plan = gold.plan_of(golden.take("method"), weights, kd_T, replace(RECIPES["repdistiller"], **values))
    return plan, num_steps, lambda images: ((images / 255 - mean) / std).permute(0, 3, 1, 2)


def take_batches(golden, normalised):
    """The batches of a trajectory, in float64 and without augmentation."""
    rows = zip(*(golden.take(key) for key in ("images", "labels", "index")), strict=True)
    return [
        gold.GoldenBatch(normalised(images.double()), labels, index, None, epoch=1, step=step, seed=0)
        for step, (images, labels, index) in enumerate(rows)
    ]
