#!/usr/bin/env bash
# Fetch published CIFAR-100 teachers into save/models: pytorch-cifar-models' resnet20/32/44/56 (checked by the hash
# in their names) and RepDistiller's six. Name networks to fetch only those:
#   bash scripts/fetch_pretrained_teachers.sh resnet56 resnet32x4
# It takes a python that is there, .venv or one with PyTorch, and installs nothing.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
source scripts/setup.sh
find_environment engine.checkpoints.teachers
exec python -m engine.checkpoints.teachers "$@"
