#!/usr/bin/env bash
# Sets up everything and runs the tests. Arguments go to pytest: bash scripts/test.sh -m slow
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
source scripts/setup.sh
setup_environment requirements-dev.txt
export OMP_NUM_THREADS=1
ruff check .
ruff format --check .
exec python -m pytest --numprocesses auto --maxprocesses 8 "$@"
