#!/usr/bin/env bash
# From a folder of photographs to a small network in a file: fine-tunes a teacher, distils it into several students, says
# which is the smallest good one, exports that one as ONNX, and predicts with it.
#   bash scripts/distil_folder.sh FOLDER [NEW_IMAGE_OR_FOLDER ...]
# FOLDER has a folder of images for each class, or train/ and val/ with these, or labels.csv beside images. Variables say
# what is done; these are the defaults (docs/own_photographs.md has more on each):
#   SIZE=224                  side of the square that the networks see, in pixels
#   TEACHER=timm:resnet50 INIT=pretrained
#                             the teacher and what it starts from: pretrained (timm's weights), a file of weights, none
#   STUDENTS="timm:mobilenetv3_small_100 timm:resnet18" INIT_S=pretrained
#                             the students, and what they start from: one word for all, or one for each
#   METHODS="none kd dkd dist"    how they are distilled; none: trained on the labels alone
#   EPOCHS=30 BATCH_SIZE=32 TRIALS=1
#   WITHIN=1                  points of accuracy that the smallest good student may lack of the teacher's
#   OUTPUT=save/FOLDER        where everything is written
#   ARGS=                     flags for every training, such as ARGS="--class_weights balanced --skip_bad_images"
# Stopped at any point, the same command continues.
set -euo pipefail
if [ $# -eq 0 ] || [[ $1 == -* ]]; then
    echo "usage: bash scripts/distil_folder.sh FOLDER [NEW_IMAGE_OR_FOLDER ...]" >&2
    exit 2
fi
if [ ! -d "$1" ]; then
    echo "error: $1 is no folder; name the folder of your photographs" >&2
    exit 2
fi
photographs=$(cd "$1" && pwd)
cd "$(dirname "${BASH_SOURCE[0]}")/.."
source scripts/setup.sh
name=$(basename "$photographs")
resolve_output "save/$name"

# A file or folder that is named relative to where the script was started.
from_start() {
    if [[ $1 != /* && -e $OLDPWD/$1 ]]; then echo "$OLDPWD/$1"; else echo "$1"; fi
}

# The flags that start a network from weights: of the flag $1 and the word $2.
start_from() {
    [ "$2" = none ] || printf '%s\n' "$1" "$(from_start "$2")" --recipe finetune
}

setup_environment requirements-photographs.lock
read -ra students <<<"${STUDENTS:-timm:mobilenetv3_small_100 timm:resnet18}"
read -ra starts <<<"${INIT_S:-pretrained}"
read -ra methods <<<"${METHODS:-none kd dkd dist}"
read -ra trials <<<"${TRIALS:-1}"
read -ra more <<<"${ARGS:-}"
new=()
for image in "${@:2}"; do new+=("$(from_start "$image")"); done
if [ ${#starts[@]} -ne 1 ] && [ ${#starts[@]} -ne ${#students[@]} ]; then
    echo "error: INIT_S has ${#starts[@]} words and STUDENTS ${#students[@]}; give one word for all, or one for each" >&2
    exit 2
fi
data=(--data_folder "$(dirname "$photographs")" --dataset "folder:$name@${SIZE:-224}")
training=("${data[@]}" --epochs "${EPOCHS:-30}" --batch_size "${BATCH_SIZE:-32}" --output "$OUTPUT" "${more[@]}")

mkdir -p "$OUTPUT"
mapfile -t start < <(start_from --init "${INIT:-pretrained}")
python train_teacher.py --model "${TEACHER:-timm:resnet50}" "${start[@]}" "${training[@]}" --run_list "$OUTPUT/teacher.txt"
teacher=$(<"$OUTPUT/teacher.txt")
for i in "${!students[@]}"; do
    mapfile -t start < <(start_from --init_s "${starts[$i]:-${starts[0]}}")
    attempt python train_student.py --distill "${methods[@]}" --model_s "${students[$i]}" --path_t "$teacher" --skip_refused \
        --trial "${trials[@]}" "${start[@]}" "${training[@]}"
done

# Latency is a measurement: nothing else should run meanwhile.
python scripts/measure_latency.py "$OUTPUT" --path_t "$teacher"
student=$(python scripts/choose_student.py "$OUTPUT" --within "${WITHIN:-1}")
python scripts/analyse.py "${data[@]}" --teacher "$teacher" --student "$student" --out "$OUTPUT/analysis" \
    --overwrite
compare=(python compare.py "$OUTPUT" --pareto --within "${WITHIN:-1}")
"${compare[@]}"
"${compare[@]}" --out "$OUTPUT/report.html" --analysis "$OUTPUT/analysis" --overwrite
python export.py --path "$student" "${data[@]}" --out "$OUTPUT/student.onnx" --card --overwrite
if [ ${#new[@]} -gt 0 ]; then
    python predict.py --path "$OUTPUT/student.onnx" "${new[@]}" --format csv >"$OUTPUT/predictions.csv"
    python predict.py --path "$OUTPUT/student.onnx" "${new[@]}"
fi
echo "in $OUTPUT: report.html, student.onnx, student.md (its model card)${new:+, predictions.csv}" >&2
exit $failed
