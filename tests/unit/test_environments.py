"""The modules' conda environments hold what the package needs."""

from __future__ import annotations

import tomllib

import pytest
import yaml

from tests.conftest import REPO

FILES = sorted((REPO / "modules").glob("*/*/*/environment.yml"))
CONDA_NAMES = {"torch": "pytorch", "matplotlib": "matplotlib-base"}
BROUGHT_ALONG = {"h5py", "numpy", "pandas", "scikit-learn", "scipy"}
"""Packages that anndata and scanpy depend on themselves."""


def parsed(requirement: str) -> tuple[str, str]:
    name, _, version = requirement.rpartition("::")[2].partition(">=")
    return name, version


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.parent.name)
def test_an_environment_has_the_packages_dependencies(path):
    needed = dict(map(parsed, tomllib.loads((REPO / "pyproject.toml").read_text())["project"]["dependencies"]))
    listed = dict(map(parsed, yaml.safe_load(path.read_text())["dependencies"]))
    wanted = {CONDA_NAMES.get(n, n): v for n, v in needed.items() if n not in BROUGHT_ALONG}
    assert {name: listed.get(name) for name in wanted} == wanted


def test_every_module_has_one():
    assert {path.parent.name for path in FILES} == {path.parent.name for path in REPO.glob("modules/*/*/*/main.nf")}
