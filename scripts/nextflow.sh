#!/usr/bin/env bash
# Runs Nextflow, wherever it is: $NEXTFLOW, else what scripts/get_nextflow.sh found or installed in .tools/bin.
set -euo pipefail
root=$(cd "$(dirname "$(readlink -f "${BASH_SOURCE[0]}")")/.." && pwd)
nextflow=${NEXTFLOW:-$root/.tools/bin/nextflow}
if [ -z "${NEXTFLOW:-}" ] && ! [ -x "$nextflow" ]; then
    "$root/scripts/get_nextflow.sh" >&2
fi
exec "$nextflow" "$@"
