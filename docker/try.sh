#!/usr/bin/env bash
# Starts the image and sees that it does its work: it proxies to a backend outside the container that it finds
# by name, is healthy, runs as an ordinary user, and on SIGTERM finishes what is in flight and exits with 0.
#
#     docker/try.sh [TAG]        default: crossfade:latest
#
# Uses podman or docker, and the ports 18080, 19001 and 19900 of the host. RUN_FLAGS are further flags of `run`.
set -euo pipefail
cd "$(dirname "$0")/.."

tag=${1:-crossfade:latest}
name=crossfade-try-$$
scratch=$(mktemp -d)
origin=

if command -v podman >/dev/null; then engine=podman; else engine=docker; fi

finish() {
    local code=$?
    if [[ $code -ne 0 ]]; then "$engine" logs "$name" >&2 || true; fi
    "$engine" rm -f "$name" >/dev/null 2>&1 || true
    if [[ -n $origin ]]; then kill "$origin"; fi
    rm -rf "$scratch"
    exit "$code"
}
trap finish EXIT

expect() { # expect WHAT WANTED FOUND
    if [[ $3 != "$2" ]]; then
        printf '%s: expected %s, found %s\n' "$1" "$2" "$3" >&2
        exit 1
    fi
    printf '%s: %s\n' "$1" "$3"
}

mkdir "$scratch/config"
cat >"$scratch/config/crossfade.yaml" <<'CONFIG'
listeners: [{ address: 127.0.0.1:18080 }]
admin: { address: 127.0.0.1:19900 }
services:
  shop:
    pools: { only: { version: v1, backends: ["outside:19001"] } }
    health_check: { path: /health/ready, interval: 200ms }
CONFIG
chmod -R a+rX "$scratch" # for user 65532

tests/tools/origin.py v1=127.0.0.1:19001 >/dev/null &
origin=$!

# shellcheck disable=SC2086 # flags are words
"$engine" run -d --name "$name" --network=host --read-only --add-host=outside:127.0.0.1 \
    -e CROSSFADE_ADMIN=http://127.0.0.1:19900 -v "$scratch/config:/etc/crossfade:ro" ${RUN_FLAGS:-} "$tag"

for _ in $(seq 100); do
    if curl -sf -o /dev/null http://127.0.0.1:19900/readyz; then break; fi
    sleep 0.1
done
expect "answer" v1 "$(curl -sf http://127.0.0.1:18080/)"
"$engine" exec "$name" /crossfade healthcheck
pid=$("$engine" inspect -f '{{.State.Pid}}' "$name")
expect "user" 65532 "$(awk '$1 == "Uid:" { print $2 }' "/proc/$pid/status")"

curl -sf -o "$scratch/slow" 'http://127.0.0.1:18080/slow?seconds=2&bytes=100000' &
download=$!
sleep 0.5
"$engine" stop -t 30 "$name" >/dev/null
wait "$download" || { echo "the download was cut" >&2; exit 1; }
expect "bytes of a download that SIGTERM met" 100000 "$(stat -c %s "$scratch/slow")"
expect "exit code" 0 "$("$engine" inspect -f '{{.State.ExitCode}}' "$name")"
