#!/usr/bin/env bash
# Builds the image from a binary that is made here, so that no base image and no registry is needed.
#
#     docker/build-scratch.sh [TAG]        default: crossfade:latest
#
# Uses podman, buildah or docker, whichever is there first. With BINARY=path it takes that binary, which
# must be linked statically, instead of building one.
set -euo pipefail
cd "$(dirname "$0")/.."

tag=${1:-crossfade:latest}
binary=${BINARY:-}

if [[ -z $binary ]]; then
    # The same flags as in docker/Dockerfile; glibc's static archive comes with Debian's libc6-dev.
    target=$(rustc -vV | sed -n 's/^host: //p')
    RUSTFLAGS="-C target-feature=+crt-static" cargo build --release --locked --target "$target"
    binary=${CARGO_TARGET_DIR:-target}/$target/release/crossfade
fi
# ldd fails on a static binary without a dynamic section, and says so otherwise.
if libraries=$(ldd "$binary" 2>/dev/null) && [[ $libraries != *"statically linked"* ]]; then
    printf '%s is linked dynamically; an image from scratch has no libraries:\n%s\n' "$binary" "$libraries" >&2
    exit 1
fi

context=$(mktemp -d)
trap 'rm -rf "$context"' EXIT
install -D -m 0755 "$binary" "$context/out/crossfade"
# The last stage of docker/Dockerfile, fed from this folder instead of the first stage.
sed -n '/^FROM scratch/,$p' docker/Dockerfile | sed 's/--from=build //' >"$context/Dockerfile"

for builder in podman buildah docker; do
    command -v "$builder" >/dev/null || continue
    # Health checks are part of Docker's image format only.
    if [[ $builder == docker ]]; then format=(); else format=(--format docker); fi
    "$builder" build "${format[@]}" -t "$tag" "$context"
    exit
done
echo "none of podman, buildah and docker is installed" >&2
exit 1
