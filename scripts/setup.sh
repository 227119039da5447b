# Sourced by the other scripts: finds a python with the packages of a lock file, or makes one, and puts it first on PATH.
#   1. .venv, if an earlier call has filled it.
#   2. The python of an active environment (VIRTUAL_ENV, CONDA_PREFIX) or on PATH, if it has the pinned packages.
#   3. A new .venv with exactly the packages of the lock file, checked by their hashes.
# PYTHON=python3.12 chooses the interpreter for a new .venv (3.11 or newer) and leaves out 2;
# SKIP_SETUP=1 takes the python on PATH with the packages that it has.

LOCKS=(requirements.lock requirements-photographs.lock requirements-dev.lock) # each contains those before it
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

# Folders of pythons that are there, the likeliest first.
_folders() {
    local name found
    for found in "${VIRTUAL_ENV:-}" "${CONDA_PREFIX:-}"; do
        [ -z "$found" ] || echo "$found/bin"
    done
    for name in python python3; do
        found=$(command -v "$name") && dirname "$found"
    done
    return 0
}

# Puts the first python that is there on PATH for which a command line succeeds; fails if there is none. What the last
# one says that does not fit is in $reason.
_use_python_that() {
    local folder
    reason="there is no python on PATH"
    while IFS= read -r folder; do
        [ -x "$folder/python" ] || continue
        if reason=$("$folder/python" "$@" 2>&1); then
            PATH="$folder:$PATH"
            return 0
        fi
        reason="$folder/python does not fit: $(tail -n 1 <<<"${reason:-it fails}")"
    done < <(_folders | awk '!seen[$0]++')
    return 1
}

_prepare() {
    # Waiting threads should sleep: spinning ones make two processes on few cores many times slower.
    export OMP_WAIT_POLICY=${OMP_WAIT_POLICY:-passive} GOMP_SPINCOUNT=${GOMP_SPINCOUNT:-0}
}

setup_environment() {
    local lock=$1 python=${PYTHON:-python3} reason= each
    _prepare
    [ -z "${SKIP_SETUP:-}" ] || return 0
    if [ ! -e "$(_stamp "$lock")" ]; then
        if [ -z "${PYTHON:-}" ] && _use_python_that scripts/check_pins.py "${lock%.lock}.txt"; then
            echo "using $(command -v python), which has the packages of ${lock%.lock}.txt" >&2
            return 0
        fi
        if ! "$python" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; then
            echo "error: $python is not Python 3.11 or newer; install one, or name it: PYTHON=python3.12 bash $0" >&2
            exit 2
        fi
        [ -z "$reason" ] || echo "$reason" >&2
        echo "setting up .venv from $lock (PyTorch is several GB; once only)"
        "$python" -m venv .venv || exit 1
        .venv/bin/python -m pip install --quiet --disable-pip-version-check --require-hashes -r "$lock" || exit 1
        for each in "${LOCKS[@]}"; do
            touch "$(_stamp "$each")"
            [ "$each" != "$lock" ] || break
        done
    fi
    PATH="$PWD/.venv/bin:$PATH"
}

# Takes a python that is there and can import a module, whatever versions it has; installs nothing.
find_environment() {
    local module=$1 reason=
    _prepare
    [ -z "${SKIP_SETUP:-}" ] || return 0
    if [ -e "$(_stamp requirements.lock)" ]; then
        PATH="$PWD/.venv/bin:$PATH"
    elif _use_python_that -c "import $module"; then
        echo "using $(command -v python)" >&2
    else
        echo "error: no python here has the packages that this needs; $reason" >&2
        echo "activate an environment with them, or install them: pip install -r requirements.txt" >&2
        exit 2
    fi
}
