#!/usr/bin/env bash
# Distil a CIFAR-100 teacher into students by every method with its published weights, then print the table.
#   bash scripts/run_cifar_distill.sh [TEACHER [STUDENT ...]]        default: resnet32x4 resnet8x4
# METHODS and TRIALS say what to run, OUTPUT (default save) where to, ARGS holds flags for every run:
#   METHODS="none kd crd" TRIALS="1 2 3" ARGS="--epochs 20" bash scripts/run_cifar_distill.sh resnet56 resnet20
# The teacher is looked for in save/models, trained or fetched, and fetched where it is missing. All methods and
# students of a trial share each batch and the teacher's pass over it; ARGS="--group_size 9" trains nine at a time: less
# memory, the first rows earlier, all a little later. Stopped at any point, the same command continues.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
source scripts/setup.sh
resolve_output save
setup_environment requirements.lock

teacher=${1:-resnet32x4}
students=("${@:2}")
[ ${#students[@]} -gt 0 ] || students=(resnet8x4)
for trial in ${TRIALS:-1}; do
    # shellcheck disable=SC2086  METHODS and ARGS are lists of words
    attempt python train_student.py --distill ${METHODS:-all} --model_t "$teacher" --model_s "${students[@]}" --trial "$trial" \
        --skip_refused --output "$OUTPUT" ${ARGS:-}
done
python compare.py "$OUTPUT"
exit $failed
