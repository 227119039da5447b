"""A small folder of photographs, and runs on it."""

import numpy as np
from PIL import Image

import train_student

NAME = "folder:pets@16"
CLASSES = ("cats", "dogs", "eels")


def photograph(path, seed, size, colour):
    """A noisy picture of one colour."""
    noise = np.random.default_rng(seed).integers(0, 60, (size[1], size[0], 3))
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray((noise + np.array(colour)).astype(np.uint8)).save(path)


def train(pictures, output, *extra):
    """Train resnet8 alone for two epochs of four steps; returns the exit code."""
    words = ["--distill", "none", "--model_s", "resnet8", "--dataset", NAME, "--data_folder", str(pictures)]
    words += ["--recipe", "repdistiller", "--epochs", "2", "--batch_size", "6", "--precision", "fp32"]
    return train_student.main([*words, "--device", "cpu", "--output", str(output), *extra])
