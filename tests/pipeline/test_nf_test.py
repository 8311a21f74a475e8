"""The .nf.test files, where nf-test is installed."""

from __future__ import annotations

import os
import shutil
import subprocess

import pytest

from .conftest import REPO

pytestmark = [pytest.mark.pipeline, pytest.mark.slow]


def test_nf_test_files() -> None:
    path = f"{REPO / '.tools' / 'bin'}:{os.environ['PATH']}"
    program = shutil.which("nf-test", path=path)
    if program is None:
        pytest.skip("no nf-test; the other tests in this folder run the same processes with plain nextflow")
    done = subprocess.run([program, "test"], cwd=REPO, env=os.environ | {"PATH": path}, check=False)
    assert done.returncode == 0
