#!/usr/bin/env bash
# Copy the records of finished and failed runs (config.json, metrics of each stage, result.json or failure.json,
# latency.json; no weights) for keeping:
#   bash scripts/keep_records.sh FROM TO          for instance: save results/my_table
# A folder that is there already is left as it is, but for a failed run, whose records are taken anew. Of a run that is
# being repeated the result is kept that it has.
set -euo pipefail
if [ $# -ne 2 ] || [ ! -d "$1" ]; then
    echo "usage: bash scripts/keep_records.sh FROM TO, where FROM is a folder of runs" >&2
    exit 2
fi
find "$1" -name repetition -prune -o -type f \( -name result.json -o -name failure.json \) -print0 | while IFS= read -r -d '' result; do
    run=${result%/*}
    target="$2/${run##*/}"
    if [ -e "$target" ] && [ ! -e "$target/failure.json" ]; then
        echo "left as it is: $target"
        continue
    fi
    mkdir -p "$target"
    rm -f "$target/failure.json"
    for record in config.json initial_metrics.jsonl metrics.jsonl result.json latency.json failure.json; do
        if [ -f "$run/$record" ]; then cp -p "$run/$record" "$target/"; fi
    done
    echo "$target"
done
