#!/usr/bin/env bash
# Train networks alone on CIFAR-100 by the published protocol: RepDistiller's six teachers, or those that are named.
#   bash scripts/run_cifar_vanilla.sh [NETWORK ...]
# Flags for every run go into ARGS:  ARGS="--epochs 20 --trial 2" bash scripts/run_cifar_vanilla.sh resnet56
# OUTPUT is the folder that is written to and tabulated (default save).
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
source scripts/setup.sh
resolve_output save
setup_environment requirements.lock

[ $# -gt 0 ] || set -- wrn_40_2 resnet56 resnet110 resnet32x4 vgg13 ResNet50
for model in "$@"; do
    # shellcheck disable=SC2086  ARGS is a list of flags
    attempt python train_teacher.py --model "$model" --output "$OUTPUT" ${ARGS:-}
done
python compare.py "$OUTPUT"
exit $failed
