#!/usr/bin/env bash
# Builds the container image with podman and runs `-profile test,podman` in it: read-only, without a network. Says why
# and does nothing where it cannot be done. Usage: scripts/container_test.sh
#   TORCH=cpu|cuda   another PyTorch than that of PyPI for a CPU (containers/README.md)
#   KEEP=1           leave the image
set -euo pipefail
cd "$(dirname "$(readlink -f "${BASH_SOURCE[0]}")")/.."
image=localhost/scmodal-test:latest
torch=${TORCH:-pypi-cpu}
needed_gb=20

skip() {
    echo "SKIPPED the container test: $1"
    exit 0
}

command -v podman >/dev/null || skip "podman is not installed here"
podman info >/dev/null 2>&1 || skip "podman does not run here (podman info fails)"
podman image exists docker.io/library/debian:bookworm-slim || podman pull -q docker.io/library/debian:bookworm-slim >/dev/null 2>&1 \
    || skip "the base image debian:bookworm-slim is neither here nor to be had"
store=$(podman info --format '{{.Store.GraphRoot}}')
free_gb=$(($(df --output=avail -k "$store" | tail -n 1) / 1048576))
[ "$free_gb" -ge $needed_gb ] || skip "$free_gb GB are free in $store, and building takes $needed_gb"

work=$(mktemp -d)
finish() {
    rm -rf "$work"
    [ -n "${KEEP:-}" ] || podman rmi --force $image >/dev/null 2>&1 || true
}
trap finish EXIT

echo "Building the image (TORCH=$torch)"
if ! podman build --quiet --format docker --layers=false -f containers/Dockerfile --build-arg TORCH="$torch" \
    --build-arg REVISION="$(git rev-parse HEAD 2>/dev/null || echo unknown)" -t $image . >"$work/build.log" 2>&1; then
    tail -n 30 "$work/build.log" >&2
    exit 1
fi
echo "Size: $(($(podman image inspect --format '{{.Size}}' $image) / 1000000)) MB"

in_image() { podman run --rm --no-healthcheck --read-only --network none "$@"; }
in_image --user 12345 $image scmodal doctor | tail -n 2
[ "$(in_image $image id -un)" = scmodal ] || { echo "the image does not run as its own user" >&2; exit 1; }
for program in ps scmodal; do
    in_image $image sh -c "command -v $program" >/dev/null || { echo "the image lacks $program" >&2; exit 1; }
done
for program in gcc cc pip uv; do
    ! in_image $image sh -c "command -v $program" >/dev/null || { echo "the image has $program, which no task needs" >&2; exit 1; }
done

echo "podman.runOptions = '--user 0:0 --read-only --network none --no-healthcheck'" >"$work/strict.config"
root=$PWD
(cd "$work" && NXF_ANSI_LOG=false "$root/scripts/nextflow.sh" run "$root" -profile test,podman -c strict.config --container $image --outdir out)
scripts/setup.sh
.venv/bin/python - "$work/out" <<'PYTHON'
import json, sys
from pathlib import Path

out = Path(sys.argv[1])
metrics = json.loads((out / "pbmc/evaluate/metrics.json").read_text())
assert metrics["n_cells"] == {"rna": 1200, "protein": 1200}, metrics["n_cells"]
accuracy = metrics["label_transfer"]["rna_to_protein"]["accuracy"]
assert accuracy > 0.6, accuracy
assert (out / "report/pbmc.html").stat().st_size > 100_000
print(f"The pipeline in the container: accuracy of transferred labels {accuracy:.3f}")
PYTHON
echo "PASSED the container test"
