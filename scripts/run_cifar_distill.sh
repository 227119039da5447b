#!/usr/bin/env bash
# Distil a CIFAR-100 teacher into students by every method with its published weights, then print the table.
#   bash scripts/run_cifar_distill.sh [TEACHER [STUDENT ...]]        default: resnet32x4 resnet8x4
# METHODS and TRIALS say what to run, OUTPUT (default save) where to, ARGS holds flags for every run:
#   METHODS="none kd crd" TRIALS="1 2 3" ARGS="--epochs 20" bash scripts/run_cifar_distill.sh resnet56 resnet20
# The teacher is looked for in save/models, trained or fetched, and fetched where it is missing. All methods and
# students of a trial share each batch and the teacher's pass over it; ARGS="--group_size 9" trains nine at a time: less
# memory, the first rows earlier, all a little later. Stopped at any point, the same command continues.
set -euo pipefail
[[ ${OUTPUT:=} == "" || $OUTPUT == /* ]] || OUTPUT=$PWD/$OUTPUT
[[ " ${ARGS:-}" != *" --output"* ]] || { echo "error: say where to write by OUTPUT=FOLDER, not in ARGS" >&2; exit 2; }
cd "$(dirname "${BASH_SOURCE[0]}")/.."
source scripts/setup.sh
setup_environment requirements.txt

teacher=${1:-resnet32x4}
students=("${@:2}")
[ ${#students[@]} -gt 0 ] || students=(resnet8x4)
OUTPUT=${OUTPUT:-save}
failed=0
for trial in ${TRIALS:-1}; do
    # A run that failed (1) does not keep other trials from running; a wrong request (2) or Ctrl-C (130) ends it all.
    # shellcheck disable=SC2086  METHODS and ARGS are lists of words
    python train_student.py --distill ${METHODS:-all} --model_t "$teacher" --model_s "${students[@]}" --trial "$trial" \
        --skip_refused --output "$OUTPUT" ${ARGS:-} || { status=$?; [ $status -eq 1 ] || exit $status; failed=1; }
done
python compare.py "$OUTPUT"
exit $failed
