# Sourced by the other scripts: makes sure that .venv holds the packages of the given lock file, exactly and checked by
# their hashes, and puts it first on PATH. Does nothing if that was done before.
#   PYTHON=python3.12 chooses the interpreter for .venv (3.11 or newer);
#   SKIP_SETUP=1 takes the python on PATH with the packages that it has.

failed=0

# Sets OUTPUT, relative to the folder that the script was started in; $1 is the default.
resolve_output() {
    if [ -z "${OUTPUT:-}" ]; then OUTPUT=$1; elif [[ $OUTPUT != /* ]]; then OUTPUT=$OLDPWD/$OUTPUT; fi
    [[ " ${ARGS:-}" != *" --output"* ]] || { echo "error: ARGS holds --output; give OUTPUT=FOLDER instead" >&2; exit 2; }
}

# Runs a command. If it fails (1), the script goes on and exits with 1; a wrong request (2) or Ctrl-C (130) ends it.
attempt() {
    "$@" || { local status=$?; [ $status -eq 1 ] || exit $status; failed=1; }
}

_stamp() {
    echo ".venv/.installed-$(cksum <"$1" | cut -d' ' -f1)"
}

setup_environment() {
    local lock=$1 python=${PYTHON:-python3}
    # Waiting threads should sleep: spinning ones make two processes on few cores many times slower.
    export OMP_WAIT_POLICY=${OMP_WAIT_POLICY:-passive} GOMP_SPINCOUNT=${GOMP_SPINCOUNT:-0}
    [ -z "${SKIP_SETUP:-}" ] || return 0
    if [ ! -e "$(_stamp "$lock")" ]; then
        if ! "$python" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; then
            echo "error: $python is not Python 3.11 or newer; install one, or name it: PYTHON=python3.12 bash $0" >&2
            exit 2
        fi
        echo "setting up .venv from $lock (PyTorch is several GB; once only)"
        "$python" -m venv .venv || exit 1
        .venv/bin/python -m pip install --quiet --disable-pip-version-check --require-hashes -r "$lock" || exit 1
        touch "$(_stamp "$lock")" "$(_stamp requirements.lock)" # the larger set contains the smaller
    fi
    PATH="$PWD/.venv/bin:$PATH"
}
