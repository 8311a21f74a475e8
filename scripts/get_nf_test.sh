#!/usr/bin/env bash
# Makes .tools/bin/nf-test if it can be had: a link to the one on PATH, else what its official installer gives. Without
# it the .nf.test files are not run; the tests in tests/pipeline run the same processes with plain Nextflow.
set -euo pipefail
cd "$(dirname "$(readlink -f "${BASH_SOURCE[0]}")")/.."
program=$PWD/.tools/bin/nf-test

if [ -x "$program" ]; then exit 0; fi
mkdir -p .tools/bin
on_path=$(command -v nf-test || true)
if [ -n "$on_path" ]; then
    ln -sf "$on_path" "$program"
    exit 0
fi
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
if command -v curl >/dev/null \
    && curl -fsSL --connect-timeout 5 --max-time 60 https://get.nf-test.com -o "$folder/install.sh" 2>/dev/null \
    && (cd "$folder" && timeout 300 bash install.sh >/dev/null 2>&1) && [ -x "$folder/nf-test" ]; then
    mv "$folder/nf-test" "$program"
    echo "nf-test: installed by its official installer"
else
    echo "nf-test: not on PATH and not to be had here; the .nf.test files are not run, only their twins in tests/pipeline"
fi
