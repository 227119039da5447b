"""Images and teachers that are measured."""

import numpy as np
import torch

from benchmarking.candidates import Conditions, make_candidates, make_data, make_teacher
from dataset import DATASETS, load_arrays
from engine.checkpoints.inference_network import InferenceNetwork
from engine.device.compute import Compute
from engine.training.teacher_pass import teacher_pass
from tests.helpers import DIGITS

CPU = torch.device("cpu")


def test_images_are_synthetic_where_files_are_missing_or_unwanted(tmp_path):
    entry = DATASETS["cifar100"]
    images, labels, source = make_data(entry, tmp_path, synthetic=False)
    assert source == "synthetic cifar100"
    assert (images.shape, images.dtype) == ((50_000, 32, 32, 3), np.uint8)
    assert (np.bincount(labels) == 500).all()
    assert list(tmp_path.iterdir()) == []
    assert make_data(DIGITS, tmp_path, synthetic=True)[2] == "synthetic digits"


def test_images_of_files_at_hand_are_taken(tmp_path):
    images, labels, source = make_data(DIGITS, tmp_path, synthetic=False)
    expected = load_arrays("digits", tmp_path)
    assert source == "digits"
    assert np.array_equal(images, expected.train_images)
    assert np.array_equal(labels, expected.train_labels)


def test_a_random_teachers_features_have_the_size_of_a_trained_ones():
    """However deep it is: otherwise losses on them would overflow."""
    teacher = make_teacher("resnet110", None, DIGITS)[1]
    assert isinstance(teacher, InferenceNetwork)
    assert not teacher.training
    teach = teacher_pass([teacher], {"stages"}, Compute(CPU, "fp32"))
    (features,) = teach(torch.randn(32, 3, 8, 8))
    for stage in features.stages:
        assert 0.1 < stage.std() < 10


def test_a_method_that_sees_the_training_set_first_can_step():
    pair = make_candidates("resnet8:resnet8", None, ["nd"], Conditions(DIGITS, "repdistiller", 32, "fp32"))
    method = pair.runs["nd"].method
    features = pair.teacher.features(torch.randn(4, 3, 8, 8))
    assert method.loss_inputs(features, (features,))
    assert method.centres.any(dim=1).all()
