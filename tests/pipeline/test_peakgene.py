"""PEAKGENE as another pipeline would include it, and where it stands in this one."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from scmodal.peakgene.formats import COLUMNS, read_table
from scmodal.simulate_links import simulate_links
from tests.unit.peakgene_data import written_run

from .conftest import Run, pipeline, run_workflow

pytestmark = pytest.mark.pipeline

SCRIPT = """
include { SCMODAL_PEAKGENE as PEAKGENE } from 'MODULES/peakgene'
workflow {
    run = file('run')
    meta = [id: 'cortex', seed: 1, group_key: 'cell_type']
    PEAKGENE([meta, file('rna.h5ad'), file('atac.h5ad'), run / 'integrated.h5mu', run / 'model'], file('GENES'), [])
}
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An integration, trained for a few steps: enough to see that it works."""
    folder = tmp_path_factory.mktemp("peakgene")
    simulation = simulate_links(n_cells=300, n_genes=60, n_chromosomes=3, n_cell_types=2)
    written_run(simulation, folder, steps=20, batch_size=80)
    return folder


def test_links_of_an_integration(folder: Path) -> None:
    run = run_workflow(folder, SCRIPT.replace("GENES", "genes.bed"))
    assert run.code == 0, run.text
    out = folder / "out" / "cortex.seed_1.peakgene"
    assert {path.name for path in out.iterdir()} == {f"peak_gene.{s}" for s in ("tsv.gz", "bedpe", "interact", "json")}
    table = read_table(out / "peak_gene.tsv.gz")
    assert list(table)[: len(COLUMNS)] == COLUMNS
    assert set(table["group"]) == {"all", "type_1", "type_2"}
    assert json.loads((out / "peak_gene.json").read_text())["group_key"] == "cell_type"


def test_wrong_genes_stop_with_status_2(folder: Path, tmp_path: Path) -> None:
    for name in ("rna.h5ad", "atac.h5ad", "run"):
        (tmp_path / name).symlink_to(folder / name)
    (tmp_path / "genes.bed").write_text("2L\t100\t200\tgene\t+\n")
    run = run_workflow(tmp_path, SCRIPT.replace("GENES", "genes.bed"))
    assert run.code != 0
    assert "exit status (2)" in run.text
    assert "none of the peaks'" in run.text
    assert not (tmp_path / "out").exists()


SHEET = """\
sample,modality,path,label_key
s1,rna,rna.h5ad,cell_type
s1,atac,atac.h5ad,
s2,rna,rna.h5ad,
s2,protein,protein.h5ad,
"""


def stub(folder: Path, *arguments: str) -> Run:
    """The pipeline with RNA and ATAC in one sample, and RNA and protein in another; nothing is computed."""
    if not (folder / "sheet.csv").exists():  # touched again they would be other files to -resume
        (folder / "sheet.csv").write_text(SHEET)
        for name in ("rna.h5ad", "atac.h5ad", "protein.h5ad", "genes.bed"):
            (folder / name).touch()
    return pipeline(folder, "--input", "sheet.csv", "-stub-run", *arguments)


@pytest.mark.slow
def test_samples_with_rna_and_atac_get_links(tmp_path: Path) -> None:
    run = stub(tmp_path, "--genes", "genes.bed")
    assert run.code == 0, run.text
    assert [name for name in run.trace if name.startswith("PEAKGENE")] == ["PEAKGENE (s1 seed 0)"]
    links = {name for name in run.published() if "/peakgene/" in name}
    assert links == {f"s1/peakgene/peak_gene.{suffix}" for suffix in ("tsv.gz", "bedpe", "interact", "json")}
    assert {"report/s1.html", "report/s2.html"} <= run.published()

    # another window concerns the links and the report, not the training
    again = stub(tmp_path, "--genes", "genes.bed", "--window", "100000", "--plot_genes", "A,B", "-resume")
    assert again.code == 0, again.text
    repeated = {name.split()[0] for name, status in again.trace.items() if status != "CACHED"}
    assert repeated == {"PEAKGENE", "REPORT"}


@pytest.mark.parametrize("options", [(), ("--genes", "genes.bed", "--peakgene", "false")])
@pytest.mark.slow
def test_without_genes_or_by_choice_there_are_none(tmp_path: Path, options: tuple[str, ...]) -> None:
    run = stub(tmp_path, *options)
    assert run.code == 0, run.text
    assert not [name for name in run.trace if name.startswith("PEAKGENE")]
    assert {"report/s1.html", "report/s2.html"} <= run.published()
