"""The documents say what the committed benchmark files hold."""

from __future__ import annotations

import importlib.util
import json

import pytest

from tests.conftest import REPO

_spec = importlib.util.spec_from_file_location("tables", REPO / "benchmarks" / "tables.py")
assert _spec is not None
assert _spec.loader is not None
tables = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(tables)


@pytest.mark.parametrize("path", tables.DOCUMENTS, ids=lambda path: path.name)
def test_tables_are_those_of_the_committed_numbers(path):
    text = path.read_text()
    assert "<!-- begin " in text
    assert tables.filled(text) == text, "run python benchmarks/tables.py"


def test_default_is_better_than_paper_where_both_were_measured():
    settings = json.loads((REPO / "benchmarks" / "quality.json").read_text())["settings"]
    data_sets = {name.split(":")[0] for name in settings}
    compared = [d for d in data_sets if {f"{d}:paper", f"{d}:default"} <= set(settings)]
    assert compared
    for data_set in compared:
        paper, default = (settings[f"{data_set}:{preset}"]["summary"] for preset in ("paper", "default"))
        assert default["foscttm"]["mean"] < paper["foscttm"]["mean"]
        for key in ("accuracy_rna_to_other", "accuracy_other_to_rna", "imputation_r_rna_to_other"):
            assert default[key]["mean"] > paper[key]["mean"]
