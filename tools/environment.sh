#!/bin/sh
# Makes .venv ready for one purpose, named by the only argument. Quiet and quick when nothing is to be done.
#
#     run     the broker
#     check   also ruff, mypy and the Python packages of the tests
#     test    also the clients that the tests run and that are no Python packages: mosquitto_pub and mosquitto_sub,
#             curl, Chromium, and Node.js with MQTT.js. An own Node.js of at least version 18 is used as it is. And
#             mosquitto, the MQTT broker that stands between the tests' ChirpStack and us, HAProxy, redis-server, on
#             which the broker stores, and nats-server, to which an example of a plugin publishes.
#
# Debian packages are installed where root runs this, and no service of theirs is started or enabled. What is missing is
# said in one line, with exit status 1.
#
# .venv/.ready-run and .venv/.ready-check say what the environment is good for: the folder it was made in (scripts in a
# virtual environment hold absolute paths) and a checksum of the files that name the dependencies. Both are gone while
# pip works, so an environment without them is half-made and is built anew. .venv/node has its own .ready.
set -eu
cd "$(dirname "$0")/.."

venv=.venv
log=install.log
purpose=${1:-}
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

suitable_node() {
    version=$(node --version 2>/dev/null) || return
    version=${version#v}
    [ "${version%%.*}" -ge 18 ]
}

# The Debian packages that the purpose needs and that are not there.
missing_packages() {
    usable || [ -z "$(choose_python)" ] || has_ensurepip "$(choose_python)" || echo python3-venv
    [ "$purpose" = test ] || return 0
    { command -v mosquitto_pub && command -v mosquitto_sub; } >/dev/null || echo mosquitto-clients
    has mosquitto || echo mosquitto
    has haproxy || echo haproxy
    has redis-server || echo redis-server
    has nats-server || echo nats-server
    suitable_node || echo nodejs
    node_ready || command -v npm >/dev/null || echo npm
    command -v chromium >/dev/null || echo chromium
    command -v curl >/dev/null || echo curl
    # without it, screenshots of the Chinese pages are empty boxes
    [ -e /usr/share/fonts/truetype/wqy ] || echo fonts-wqy-microhei
}

# Servers are in sbin, which is not on everybody's PATH.
has() {
    PATH="$PATH:/usr/local/sbin:/usr/sbin" command -v "$1" >/dev/null
}

# Debian starts a service when it installs one, and at each boot from then on. Tests start their own, on a free port.
install_without_services() {
    policy=/usr/sbin/policy-rc.d
    if [ ! -e $policy ]; then
        trap 'rm -f $policy' EXIT
        trap 'exit 130' INT TERM
        printf '#!/bin/sh\nexit 101\n' >$policy
        chmod 755 $policy
    fi
    status=0
    apt-get install -qq -y --no-install-recommends "$@" || status=$?
    for server in mosquitto haproxy redis-server nats-server; do
        case " $* " in
            *" $server "*) [ ! -d /run/systemd/system ] || systemctl disable --quiet $server || true ;;
        esac
    done
    return $status
}

install_debian_packages() {
    if [ "$(id -u)" -ne 0 ] || ! command -v apt-get >/dev/null; then
        fail "$1 is missing: run 'apt install $*' as root"
    fi
    echo "Installing the Debian packages: $*"
    export DEBIAN_FRONTEND=noninteractive
    { apt-get update -qq && install_without_services "$@"; } >"$log" 2>&1 </dev/null ||
        fail "$1 is missing and apt-get could not install it: $(first_error 'E: ') (all of it: $log)"
    [ "$purpose" != test ] || suitable_node || fail "$(command -v node) is older than Node.js 18 and comes first on the PATH"
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
    echo "Making $venv with $python"
    rm -rf "$venv"
    "$python" -m venv "$venv" >"$log" 2>&1 || fail "$python could not make $venv: $(tail -n 1 "$log") (all of it: $log)"
}

install_packages() {
    what=.
    [ "$purpose" = run ] || what='.[test,docs,dev]'
    echo "Installing the Python packages (a minute or two the first time; what pip says: $log)"
    rm -f $venv/.ready-*
    # editable_mode=compat: with setuptools' own way of editing, Twisted does not find the plugins of a flat layout.
    "$venv/bin/python" -m pip install --no-input --progress-bar off --config-settings editable_mode=compat \
        --editable "$what" >"$log" 2>&1 </dev/null || fail "pip could not install the packages: $(why_pip_failed) (all of it: $log)"
    stamp >"$venv/.ready-run"
    [ "$purpose" = run ] || stamp >"$venv/.ready-check"
}

why_pip_failed() {
    if grep -qE 'NewConnectionError|ConnectTimeout|ReadTimeout|ProxyError|MaxRetryError|Connection(Reset)?Error' "$log"; then
        echo "no connection to the package index"
    else
        first_error 'ERROR: '
    fi
}

node_ready() {
    [ "$(cat $venv/node/.ready 2>/dev/null)" = "$(cksum <tests/clients/package.json)" ]
}

# Without a lock file: it would hold addresses to download from. package.json limits the versions.
install_node_packages() {
    echo "Installing the Node.js packages"
    rm -rf $venv/node
    mkdir $venv/node
    cp tests/clients/package.json $venv/node/
    npm install --prefix $venv/node --ignore-scripts --no-package-lock --no-audit --no-fund --no-update-notifier \
        --fetch-retries 1 --loglevel error >"$log" 2>&1 </dev/null ||
        fail "npm could not install the packages: $(why_npm_failed) (all of it: $log)"
    cksum <tests/clients/package.json >$venv/node/.ready
}

why_npm_failed() {
    if grep -qE 'ENOTFOUND|EAI_AGAIN|ECONN|ETIMEDOUT|ENETUNREACH|EHOSTUNREACH' "$log"; then
        echo "no connection to the package index"
    else
        sed -nE 's/^npm (ERR!|error) (code )?//p' "$log" | head -n 1
    fi
}

case $purpose in
    run | check | test) ;;
    *) fail "usage: tools/environment.sh run|check|test" ;;
esac
[ -w . ] || fail "the folder $here is not writable for $(id -un)"
for made in $venv _trial_temp; do
    [ ! -e $made ] || [ -w $made ] || fail "$made belongs to another user: run 'make clean' as that user"
done
exec 9<.
flock 9  # two makes at once in this folder: one builds, the other waits and finds it built
missing=$(missing_packages)
# shellcheck disable=SC2086  # names of packages, one a word
[ -z "$missing" ] || install_debian_packages $missing
usable || make_venv
ready=$venv/.ready-check
[ "$purpose" != run ] || ready=$venv/.ready-run
[ "$(cat $ready 2>/dev/null)" = "$(stamp)" ] || install_packages
[ "$purpose" != test ] || node_ready || install_node_packages
