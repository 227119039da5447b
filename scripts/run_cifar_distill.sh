#!/usr/bin/env bash
# Distil a CIFAR-100 teacher into students by every method with its published weights, then print the table.
#   bash scripts/run_cifar_distill.sh [TEACHER [STUDENT ...]]        default: resnet32x4 resnet8x4
# METHODS and TRIALS say what to run, ARGS holds flags for every run:
#   METHODS="none kd crd" TRIALS="1 2 3" ARGS="--epochs 20" bash scripts/run_cifar_distill.sh resnet56 resnet20
# The teacher is looked for in save/models, trained or fetched, and fetched where it is missing. All methods and
# students of a trial share each batch and the teacher's pass over it; with GROUP=9, so many methods at a time, which
# takes a little longer and has the first rows finished early. Stopped at any point, the same command continues.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
source scripts/setup.sh
setup_environment requirements.txt

teacher=${1:-resnet32x4}
students=("${@:2}")
[ ${#students[@]} -gt 0 ] || students=(resnet8x4)
OUTPUT=${OUTPUT:-save}
METHODS=${METHODS:-all}
if [ -n "${GROUP:-}" ] && [ "$METHODS" = all ]; then
    METHODS=$(python -c 'from distiller_zoo import METHODS; print(*METHODS)')
fi
failed=0
for trial in ${TRIALS:-1}; do
    while read -r group; do
        # A method that failed (1) does not keep others from running; a wrong request (2) or Ctrl-C (130) ends it all.
        # shellcheck disable=SC2086  groups and ARGS are lists of words
        python train_student.py --distill $group --model_t "$teacher" --model_s "${students[@]}" --trial "$trial" \
            --skip_refused --output "$OUTPUT" ${ARGS:-} </dev/null || { status=$?; [ $status -eq 1 ] || exit $status; failed=1; }
    done < <(xargs -n "${GROUP:-1000}" <<<"$METHODS")
done
python compare.py "$OUTPUT"
exit $failed
