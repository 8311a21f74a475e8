#!/usr/bin/env bash
# Makes .venv with everything in requirements.lock and this package (editable). Quick when nothing has changed.
set -euo pipefail
cd "$(dirname "$(readlink -f "${BASH_SOURCE[0]}")")/.."
venv=.venv
stamp=$venv/.scmodal-setup

# Another checkout's environment is not ours to change: it would run this checkout's package from then on.
if [ -L $venv ]; then
    target=$(readlink -f $venv || readlink $venv)
    if [ "${target#"$PWD"/}" = "$target" ]; then
        echo "$PWD/$venv is a link to $target, outside of this checkout, whose environment would run this checkout if" >&2
        echo "anything were installed there. Remove the link (rm $PWD/$venv) and run this again, or use an environment as" >&2
        echo "it is: export SCMODAL_PYTHON=$target/bin/python" >&2
        exit 2
    fi
fi

wanted="$PWD $(cat requirements.lock pyproject.toml scripts/setup.sh | cksum)"

if [ -x $venv/bin/uv ] && [ "$(cat $stamp 2>/dev/null)" = "$wanted" ]; then exit 0; fi

usable() { "$1" -c 'import sys, ensurepip, venv; sys.exit(not (3, 11) <= sys.version_info[:2] < (3, 15))' 2>/dev/null; }
python=
for candidate in ${PYTHON:-python3.11 python3.12 python3.13 python3.14 python3}; do
    if usable "$candidate"; then python=$candidate && break; fi
done
if [ -z "$python" ]; then
    echo "Python 3.11 to 3.14 with its venv module is needed and was not found${PYTHON:+ as $PYTHON}: install one" >&2
    echo "(Debian: apt-get install python3 python3-venv) or name it: make setup PYTHON=/path/to/python3.12" >&2
    exit 2
fi

# An environment whose interpreter is gone (moved checkout, removed Python) is made anew.
if [ -e $venv ] && ! $venv/bin/python -c 'import sys' 2>/dev/null; then rm -rf $venv; fi
if ! [ -e $venv ]; then
    echo "Python environment: .venv with $($python --version)"
    "$python" -m venv $venv
fi
if ! [ -x $venv/bin/uv ]; then
    $venv/bin/python -m pip --version >/dev/null 2>&1 || $venv/bin/python -m ensurepip >/dev/null
    $venv/bin/python -m pip install --quiet --disable-pip-version-check "uv>=0.5"
fi
echo "Python environment: installing what requirements.lock lists"
uv="$venv/bin/uv"
# Bytecode is compiled once, here: every task of a run is a new process, and where Python may not write bytecode (or the
# folder is read-only) each of them would spend more time on compiling torch than on its work.
$uv pip install --quiet --compile-bytecode --python $venv/bin/python -r requirements.lock
$uv pip install --quiet --python $venv/bin/python --no-deps -e .
echo "$wanted" >$stamp
