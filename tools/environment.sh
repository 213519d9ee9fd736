#!/bin/sh
# Makes .venv ready for `run` (the broker) or `test` (also what its tests and checks need), named by the only argument.
# Quiet and quick when nothing is to be done. What is missing is said in one line, with exit status 1.
#
# .venv/.ready-run and .venv/.ready-test say what the environment is good for: the folder it was made in (scripts in a
# virtual environment hold absolute paths) and a checksum of the files that name the dependencies. Both are gone while
# pip works, so an environment without them is half-made and is built anew.
set -eu
cd "$(dirname "$0")/.."

venv=.venv
log=install.log
purpose=$1
here=$(pwd -P)

fail() {
    echo "broker: $*" >&2
    exit 1
}

stamp() {
    echo "$here"
    cat setup.py pyproject.toml | cksum
}

# A Python counts only when it runs: a pyenv shim can exist for a version that is not installed.
# Prints the real interpreter behind shims and virtual environments.
suitable() {
    "$1" -c 'import sys; print(sys._base_executable); sys.exit(not (3, 11) <= sys.version_info < (3, 14))' 2>/dev/null
}

has_ensurepip() {
    "$1" -c 'import ensurepip, venv' 2>/dev/null
}

# The newest suitable interpreter that can make a virtual environment, else the newest suitable one.
choose_python() {
    first=
    for name in ${PYTHON:-python3.13 python3.12 python3.11 python3}; do
        found=$(suitable "$name") || continue
        first=${first:-$found}
        if has_ensurepip "$found"; then
            echo "$found"
            return
        fi
    done
    echo "$first"
}

install_ensurepip() {
    if [ "$(id -u)" -ne 0 ] || ! command -v apt-get >/dev/null; then
        fail "python3-venv is missing: run 'apt install python3-venv' as root"
    fi
    echo "Installing the Debian package python3-venv"
    export DEBIAN_FRONTEND=noninteractive
    { apt-get update -qq && apt-get install -qq -y --no-install-recommends python3-venv; } >"$log" 2>&1 </dev/null ||
        fail "python3-venv is missing and apt-get could not install it: $(first_error 'E: ') (all of it: $log)"
}

first_error() {
    sed -n "s/^ *$1//p" "$log" | head -n 1
}

usable() {
    [ "$(head -n 1 $venv/.ready-run 2>/dev/null)" = "$here" ] && "$venv/bin/python" -c 'import pip' 2>/dev/null &&
        { [ -z "${PYTHON:-}" ] || [ "$(suitable "$PYTHON")" = "$(suitable "$venv/bin/python")" ]; }
}

make_venv() {
    python=$(choose_python)
    if [ -z "$python" ]; then
        [ -z "${PYTHON:-}" ] || fail "PYTHON=$PYTHON does not run or is not Python 3.11, 3.12 or 3.13"
        fail "Python 3.11, 3.12 or 3.13 is missing: run 'apt install python3 python3-venv' as root, or name one: make PYTHON=..."
    fi
    has_ensurepip "$python" || install_ensurepip
    echo "Making $venv with $python"
    rm -rf "$venv"
    "$python" -m venv "$venv" >"$log" 2>&1 || fail "$python could not make $venv: $(tail -n 1 "$log") (all of it: $log)"
}

install_packages() {
    case $purpose in
        run) what=. ;;
        test) what='.[test,dev]' ;;
        *) fail "usage: tools/environment.sh run|test" ;;
    esac
    echo "Installing the Python packages (a minute or two the first time; what pip says: $log)"
    rm -f $venv/.ready-*
    # editable_mode=compat: with setuptools' own way of editing, Twisted does not find the plugins of a flat layout.
    "$venv/bin/python" -m pip install --no-input --progress-bar off --config-settings editable_mode=compat \
        --editable "$what" >"$log" 2>&1 </dev/null || fail "pip could not install the packages: $(why_pip_failed) (all of it: $log)"
    stamp >"$venv/.ready-run"
    [ "$purpose" != test ] || stamp >"$venv/.ready-test"
}

why_pip_failed() {
    if grep -qE 'NewConnectionError|ConnectTimeout|ReadTimeout|ProxyError|MaxRetryError|Connection(Reset)?Error' "$log"; then
        echo "no connection to the package index"
    else
        first_error 'ERROR: '
    fi
}

[ -w . ] || fail "the folder $here is not writable for $(id -un)"
for made in $venv _trial_temp; do
    [ ! -e $made ] || [ -w $made ] || fail "$made belongs to another user: run 'make clean' as that user"
done
exec 9<.
flock 9  # two makes at once in this folder: one builds, the other waits and finds it built
if usable; then
    [ "$(cat $venv/.ready-"$purpose" 2>/dev/null)" != "$(stamp)" ] || exit 0
else
    make_venv
fi
install_packages
