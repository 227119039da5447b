# Sourced by the other scripts: makes sure of a Python environment in .venv with all that the given
# requirements file pins, and puts it first on PATH. Does nothing where that was done before.
#   PYTHON=python3.12 chooses the interpreter that it is made from (3.11 or newer);
#   SKIP_SETUP=1 takes the python on PATH as it is, with whatever is installed there.

failed=0

# Says where to write: OUTPUT, from the folder that the script was started in, or else the default.
resolve_output() {
    if [ -z "${OUTPUT:-}" ]; then OUTPUT=$1; elif [[ $OUTPUT != /* ]]; then OUTPUT=$OLDPWD/$OUTPUT; fi
    [[ " ${ARGS:-}" != *" --output"* ]] || { echo "error: say where to write by OUTPUT=FOLDER, not in ARGS" >&2; exit 2; }
}

# A run that failed (1) does not keep others from running; a wrong request (2) or Ctrl-C (130) ends it all.
attempt() {
    "$@" || { local status=$?; [ $status -eq 1 ] || exit $status; failed=1; }
}

_stamp() {
    echo ".venv/.installed-$(cat requirements.txt "$1" | cksum | cut -d' ' -f1)"
}

setup_environment() {
    local requirements=$1 python=${PYTHON:-python3}
    # Threads that wait should sleep: spinning ones make two processes on few cores many times slower.
    export OMP_WAIT_POLICY=${OMP_WAIT_POLICY:-passive} GOMP_SPINCOUNT=${GOMP_SPINCOUNT:-0}
    [ -z "${SKIP_SETUP:-}" ] || return 0
    if [ ! -e "$(_stamp "$requirements")" ]; then
        if ! "$python" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; then
            echo "error: $python is no Python 3.11 or newer; install one, or name it: PYTHON=python3.12 bash $0" >&2
            exit 2
        fi
        echo "setting up .venv from $requirements (PyTorch is several GB; once only)"
        "$python" -m venv .venv || exit 1
        .venv/bin/python -m pip install --quiet --disable-pip-version-check -r "$requirements" || exit 1
        touch "$(_stamp "$requirements")" "$(_stamp requirements.txt)" # the larger set holds the smaller
    fi
    PATH="$PWD/.venv/bin:$PATH"
}
