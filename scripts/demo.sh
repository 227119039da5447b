#!/usr/bin/env bash
# The main job in small: sets up everything, trains teachers on scikit-learn's digits, distils them into an
# MLP-Mixer by several methods, three times each, and prints the comparison table. Needs nothing but a package index.
# The same command again continues where it stopped and prints the table at once where all is done.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
source scripts/setup.sh
resolve_output save/demo
setup_environment requirements.lock
export OMP_NUM_THREADS=${OMP_NUM_THREADS:-1} # networks this small are faster without a second thread

METHODS=${METHODS:-none kd std crd}
COMMON=(--dataset digits --output "$OUTPUT")
for trial in 1 2 3; do
    python train_teacher.py --model resnet20 --epochs 20 --trial "$trial" "${COMMON[@]}"
    # Each trial has a teacher of its own, so that the spread in the table includes the teacher's.
    teacher=$(ls -t "$OUTPUT"/models/resnet20_digits_*_trial_"$trial"_*/resnet20_last.pth | head -n 1)
    # shellcheck disable=SC2086  METHODS is a list of words
    python train_student.py --distill $METHODS --model_s mixer_pico --path_t "$teacher" \
        --recipe light --epochs 15 --batch_size 32 --trial "$trial" "${COMMON[@]}"
done
python compare.py "$OUTPUT"
