#!/usr/bin/env bash
# Distil CIFAR-100's resnet56 into MLP-Mixers: student alone, KD and STD, then print the table.
#   bash scripts/run_cifar_mlp.sh [STUDENT ...]                   default: mixer_nano mixer_s4
# METHODS, TRIALS and ARGS as in run_cifar_distill.sh; each student trains by its own recipe (deit, 300 epochs).
set -euo pipefail
[ $# -gt 0 ] || set -- mixer_nano mixer_s4
export METHODS=${METHODS:-none kd std}
exec bash "$(dirname "${BASH_SOURCE[0]}")/run_cifar_distill.sh" resnet56 "$@"
