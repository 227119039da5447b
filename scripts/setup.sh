# Sourced by the other scripts: makes sure of a Python environment in .venv with all that the given
# requirements file pins, and puts it first on PATH. Does nothing where that was done before.
# Set PYTHON to choose the interpreter it is made from (3.11 or newer).

setup_environment() {
    local requirements=$1 stamp
    stamp=".venv/.installed-$(cat requirements.txt "$requirements" | cksum | cut -d' ' -f1)"
    if [ ! -e "$stamp" ]; then
        local python=${PYTHON:-python3}
        if ! "$python" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; then
            echo "error: $python is no Python 3.11 or newer; install one, or name it: PYTHON=python3.12 bash $0" >&2
            exit 2
        fi
        echo "setting up .venv from $requirements (PyTorch is several GB; once only)"
        "$python" -m venv .venv || exit 1
        .venv/bin/python -m pip install --quiet --disable-pip-version-check -r "$requirements" || exit 1
        touch "$stamp"
    fi
    PATH="$PWD/.venv/bin:$PATH"
    # Threads that wait should sleep: spinning ones make two processes on few cores many times slower.
    export OMP_WAIT_POLICY=${OMP_WAIT_POLICY:-passive} GOMP_SPINCOUNT=${GOMP_SPINCOUNT:-0}
}
