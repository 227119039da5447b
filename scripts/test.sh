#!/usr/bin/env bash
# Sets up everything and runs the checks and tests. Arguments go to pytest:
#   bash scripts/test.sh              ruff, mypy and the default tests
#   bash scripts/test.sh -m fast      the same with the fast tests only
#   bash scripts/test.sh -m slow      with the slow tests only
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
source scripts/setup.sh
setup_environment requirements-dev.lock
export OMP_NUM_THREADS=1
python -m ruff check .
python -m ruff format --check .
python -m mypy
exec python -m pytest --numprocesses auto --maxprocesses 8 "$@"
