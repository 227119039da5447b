#!/usr/bin/env bash
# Train networks alone on CIFAR-100 by the published protocol: RepDistiller's six teachers, or those that are named.
#   bash scripts/run_cifar_vanilla.sh [NETWORK ...]
# Flags for every run go into ARGS:  ARGS="--epochs 20 --trial 2" bash scripts/run_cifar_vanilla.sh resnet56
# OUTPUT is the folder that is written to and tabulated (default save).
set -euo pipefail
[[ ${OUTPUT:=} == "" || $OUTPUT == /* ]] || OUTPUT=$PWD/$OUTPUT
[[ " ${ARGS:-}" != *" --output"* ]] || { echo "error: say where to write by OUTPUT=FOLDER, not in ARGS" >&2; exit 2; }
cd "$(dirname "${BASH_SOURCE[0]}")/.."
source scripts/setup.sh
setup_environment requirements.txt

[ $# -gt 0 ] || set -- wrn_40_2 resnet56 resnet110 resnet32x4 vgg13 ResNet50
OUTPUT=${OUTPUT:-save}
failed=0
for model in "$@"; do
    # A run that failed (1) does not keep others from running; a wrong request (2) or Ctrl-C (130) ends it all.
    # shellcheck disable=SC2086  ARGS is a list of flags
    python train_teacher.py --model "$model" --output "$OUTPUT" ${ARGS:-} || { status=$?; [ $status -eq 1 ] || exit $status; failed=1; }
done
python compare.py "$OUTPUT"
exit $failed
