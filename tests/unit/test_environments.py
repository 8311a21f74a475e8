"""The modules' conda environments hold what the package needs."""

from __future__ import annotations

import os
import shutil
import subprocess
import tomllib
from pathlib import Path

import numpy as np
import pytest
import yaml

from scmodal import __version__
from tests.conftest import REPO

MODULES = sorted((REPO / "modules").glob("*/*/*/environment.yml"))
PIPELINE = REPO / "conf" / "environment.yml"
CONDA_NAMES = {"torch": "pytorch", "matplotlib": "matplotlib-base"}
BROUGHT_ALONG = {"h5py", "numpy", "pandas", "scikit-learn", "scipy"}
"""Packages that anndata and scanpy depend on themselves."""


def parsed(requirement: str) -> tuple[str, str]:
    name, _, version = requirement.rpartition("::")[2].partition(">=")
    return name, version


def dependencies(path):
    """Conda's packages, and pip's."""
    entries = yaml.safe_load(path.read_text())["dependencies"]
    return [e for e in entries if isinstance(e, str)], [p for e in entries if isinstance(e, dict) for p in e["pip"]]


@pytest.mark.parametrize("path", [*MODULES, PIPELINE], ids=lambda path: path.parent.name)
def test_an_environment_has_the_packages_dependencies(path):
    needed = dict(map(parsed, tomllib.loads((REPO / "pyproject.toml").read_text())["project"]["dependencies"]))
    listed = dict(map(parsed, dependencies(path)[0]))
    wanted = {CONDA_NAMES.get(n, n): v for n, v in needed.items() if n not in BROUGHT_ALONG}
    assert {name: listed.get(name) for name in wanted} == wanted


def test_a_module_on_its_own_brings_the_released_command():
    """The pipeline's environment is that of the modules without it: there the command is the checkout's."""
    release = f"scmodal @ https://github.com/scmodal-nf/scmodal/archive/refs/tags/{__version__}.tar.gz"
    packages, none = dependencies(PIPELINE)
    assert none == []
    for path in MODULES:
        assert dependencies(path) == ([*packages, "conda-forge::pip"], [release]), path


def test_every_module_has_one():
    assert {path.parent.name for path in MODULES} == {path.parent.name for path in REPO.glob("modules/*/*/*/main.nf")}


@pytest.mark.parametrize("target", ["elsewhere", "nowhere"])
def test_a_link_to_another_environment_is_not_installed_into(tmp_path: Path, target: str):
    """Setting up would make it the environment of this checkout."""
    checkout = tmp_path / "checkout"
    (checkout / "scripts").mkdir(parents=True)
    shutil.copy(REPO / "scripts" / "setup.sh", checkout / "scripts")
    for name in ("requirements.lock", "pyproject.toml"):
        (checkout / name).write_text("")
    installed = tmp_path / "elsewhere" / "bin"
    installed.mkdir(parents=True)
    for name in ("python", "uv"):  # what would be started tells of it
        (installed / name).write_text(f"#!/bin/sh\ntouch '{tmp_path}/started'\n")
        (installed / name).chmod(0o755)
    (checkout / ".venv").symlink_to(tmp_path / target)
    env = {**os.environ, "PYTHON": str(installed / "python")}
    ran = subprocess.run([checkout / "scripts" / "setup.sh"], env=env, capture_output=True, text=True, check=False)
    assert ran.returncode == 2, ran.stderr
    assert f"rm {checkout}/.venv" in ran.stderr
    assert f"SCMODAL_PYTHON={tmp_path / target}/bin/python" in ran.stderr
    assert not (tmp_path / "started").exists()
    assert list((tmp_path / "elsewhere").iterdir()) == [installed]


@pytest.mark.slow
def test_scanpy_finds_neighbours_by_every_metric():
    """Scanpy takes pynndescent beyond 4,096 cells, and cannot read what some versions of it give."""
    import scanpy as sc
    from anndata import AnnData

    adata = AnnData(obsm={"X_scmodal": np.random.default_rng(0).normal(size=(4200, 5)).astype(np.float32)})
    sc.pp.neighbors(adata, n_neighbors=5, use_rep="X_scmodal", metric="cosine")
    assert adata.obsp["distances"].shape == (4200, 4200)
