#!/usr/bin/env bash
# Copy the records of finished runs (config.json, metrics.jsonl, result.json; no weights) for keeping:
#   bash scripts/keep_records.sh FROM TO          for instance: save results/my_table
# A folder that is there already is left as it is.
set -euo pipefail
if [ $# -ne 2 ] || [ ! -d "$1" ]; then
    echo "usage: bash scripts/keep_records.sh FROM TO, where FROM is a folder of runs" >&2
    exit 2
fi
find "$1" -name result.json -printf '%h\0' | while IFS= read -r -d '' run; do
    target="$2/${run##*/}"
    if [ -e "$target" ]; then
        echo "left as it is: $target"
        continue
    fi
    mkdir -p "$target"
    cp "$run/config.json" "$run/metrics.jsonl" "$run/result.json" "$target/"
    echo "$target"
done
