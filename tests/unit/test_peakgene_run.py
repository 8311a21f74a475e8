"""`scmodal peakgene` on a trained model: files, figures, leaving the locus out, groups, pairs, and wrong input."""

from __future__ import annotations

import json
import shutil

import anndata as ad
import numpy as np
import pandas as pd
import pytest
from safetensors.torch import load_file, save_file
from sklearn.metrics import average_precision_score

from scmodal import cli
from scmodal.io import MEMORY_VARIABLE, write_h5ad
from scmodal.peakgene.expression import imputed_expression
from scmodal.peakgene.formats import COLUMNS, read_table
from scmodal.peakgene.locus import column_places, expression_without_locus, locus_columns
from scmodal.peakgene.run import distance_decay
from scmodal.peakgene.units import choose_units
from scmodal.simulate_links import simulate_links, write_link_simulation

from .peakgene_data import true_pairs, written_run

SMALL = ("--n-units", 200, "--unit-size", 15, "--max-overlap", 0.8, "--background", 60, "--device", "cpu")


def run(*arguments: object) -> int:
    """Exit code of a command."""
    try:
        cli.main([str(a) for a in arguments])
    except SystemExit as end:
        return int(end.code or 0)
    return 0


def files(done, **other):
    """Options that name the files of a run, some of them replaced."""
    given = {"rna": done.rna, "atac": done.atac, "integrated": done.integrated, "genes": done.genes, **other}
    return [part for name, path in given.items() for part in (f"--{name}", path)]


@pytest.fixture(scope="module")
def done(tmp_path_factory):
    """A simulation whose cells are paired, which training does not know, integrated."""
    simulation = simulate_links(
        n_cells=500, n_genes=200, n_chromosomes=4, n_cell_types=12, n_latent=12, umis=5000, openness=0.5, seed=3
    )
    return written_run(simulation, tmp_path_factory.mktemp("run"), steps=300, batch_size=100)


@pytest.fixture(scope="module")
def links(done, tmp_path_factory):
    folder = tmp_path_factory.mktemp("links") / "links"
    extra = ("--leave-locus-out", "--paired", "--plot-genes", "GENE3,GENE40", "--fdr", 0.5)
    assert run("peakgene", *files(done), "--output", folder, *SMALL, *extra) == 0
    return folder


def test_files(links):
    names = {p.relative_to(links).as_posix() for p in links.rglob("*") if p.is_file()}
    figures = {f"figures/{gene}{suffix}" for gene in ("GENE3", "GENE40") for suffix in (".pdf", ".png")}
    assert names == {"peak_gene.tsv.gz", "peak_gene.bedpe", "peak_gene.interact", "peak_gene.json", *figures}
    table = read_table(links / "peak_gene.tsv.gz")
    assert list(table) == [*COLUMNS, "spearman", "r_locus_out", "r_locus_change", "r_paired"]
    assert set(table["group"]) == {"all"}
    assert (table["distance"].abs() <= 250_000).all()
    middle = (table["start"] + table["end"]) // 2
    assert (table["distance"] == (middle - table["tss"]) * np.where(table["strand"] == "-", -1, 1)).all()
    n_links = int((table["fdr"] <= 0.5).sum())
    assert n_links > 0
    assert len((links / "peak_gene.bedpe").read_text().splitlines()) == n_links + 1
    assert len((links / "peak_gene.interact").read_text().splitlines()) == n_links + 2
    summary = json.loads((links / "peak_gene.json").read_text())
    assert summary["groups"]["all"]["n_tested"] == len(table)
    assert summary["groups"]["all"]["n_links"] == n_links
    assert sum(part["n_tested"] for part in summary["distance_decay"]) == len(table)
    assert (links / "figures" / "GENE3.pdf").read_bytes().startswith(b"%PDF")
    assert (links / "figures" / "GENE3.png").stat().st_size > 10_000


def test_the_report_has_a_section(done, links, tmp_path, capsys):
    page = tmp_path / "report.html"
    given = ("report", "--sample", "s", "--run", done.integrated.parent, "--output", page)
    assert run(*given, "--peakgene", links) == 0
    text = page.read_text()
    table = read_table(links / "peak_gene.tsv.gz")
    assert "Peak-gene links" in text
    assert (
        f"{int((table['fdr'] <= 0.5).sum()):,} links at a false discovery rate of 50%, of {len(table):,} tested" in text
    )
    assert "Links by distance" in text
    assert text.count("data:image/png;base64,") == 2
    assert "Locus of GENE40" in text
    assert "With the locus hidden from the model" in text
    best = table[table["fdr"] <= 0.5].sort_values("p").iloc[0]
    assert f"<td>{best['gene']}</td>" in text
    assert run(*given, "--peakgene", tmp_path) == 2
    assert "peak_gene.json: not found; is" in capsys.readouterr().err


def test_links_through_the_model_are_those_that_were_planted(done, links):
    table = read_table(links / "peak_gene.tsv.gz")
    distal = (table["distance"].abs() > 2_000).to_numpy()
    true = true_pairs(done.simulation, table)[distal]
    score = {name: average_precision_score(true, table[name].abs()[distal]) for name in ("z", "r_paired")}
    by_distance = average_precision_score(true, -table["distance"].abs()[distal])
    assert score["z"] > by_distance + 0.1
    assert score["z"] > 0.5 * score["r_paired"]
    assert np.corrcoef(table["r"], table["r_paired"])[0, 1] > 0.8
    # what is no link has the p-values of chance, though the model saw the gene's own locus
    null = table["p"][distal][~true]
    assert abs((null < 0.05).mean() - 0.05) < 0.025
    assert (table["p"][distal][true] < 0.05).mean() > 0.2


def test_leaving_the_locus_out_is_masking_the_input_and_imputing_again(done):
    model = done.model
    atac = ad.read_h5ad(done.atac)
    genes = pd.read_csv(done.genes, sep="\t", names=["chrom", "start", "end", "gene", "strand"])
    genes["tss"] = np.where(genes["strand"] == "+", genes["start"], genes["end"] - 1)
    genes = genes.iloc[[5, 60]].reset_index(drop=True)
    units = choose_units(model.latents["atac"], 40, 15, 0.5)
    masks = locus_columns(genes, column_places(model, atac), 250_000, 2000)
    assert (np.diff(masks.indptr) >= 2).all()
    names = list(genes["gene"])
    found = expression_without_locus(model, atac, names, masks, units)
    scaled = model.recipes["atac"].transform(atac)
    column = model.imputed_features("rna").index.get_indexer(names)
    for i in range(2):
        masked = scaled.copy()
        masked[:, masks[i].indices] = 0.0
        z = model._encode([masked], len(masked), "atac", None)
        expected = units @ model.decode(z, "rna", direct=True).log_normalised[:, column[i]] / 15
        np.testing.assert_allclose(found[i], expected, atol=2e-5)
    # with nothing masked it is the plain imputation
    plain = expression_without_locus(model, atac, names, masks * 0 > 1, units)
    np.testing.assert_allclose(plain, imputed_expression(model, model.latents["atac"], names, units), atol=2e-5)
    assert np.abs(plain - found).max() > 1e-3


def test_groups_of_cells_are_tested_too(done, tmp_path, capsys):
    """The ATAC cells have no labels of their own here: those of RNA are carried over."""
    atac = ad.read_h5ad(done.atac)
    del atac.obs["cell_type"]
    atac.uns["scmodal"]["label_key"] = ""
    write_h5ad(atac, tmp_path / "atac.h5ad")
    rna = ad.read_h5ad(done.rna)
    number = rna.obs["cell_type"].str.removeprefix("type_").astype(int)
    rna.obs["half"] = np.where(number == 1, "rare one", np.where(number < 7, "first", "second"))
    write_h5ad(rna, tmp_path / "rna.h5ad")
    options = ("--group-key", "half", "--window", 50_000, "--unit-size", 30, "--n-units", 100, "--background", 60)
    given = files(done, atac=tmp_path / "atac.h5ad", rna=tmp_path / "rna.h5ad")
    assert run("peakgene", *given, "--output", tmp_path / "out", *options, "--max-overlap", 0.8) == 0
    said = capsys.readouterr().err
    assert "Groups of cells: column 'half' of the RNA cells, carried to the ATAC cells" in said
    assert "Units have" in said
    table = read_table(tmp_path / "out" / "peak_gene.tsv.gz")
    groups = json.loads((tmp_path / "out" / "peak_gene.json").read_text())["groups"]
    assert {"all", "first", "second"} <= set(table["group"]) == set(groups)
    assert table["distance"].abs().max() <= 50_000
    assert groups["first"]["n_cells"] + groups["second"]["n_cells"] < groups["all"]["n_cells"] == 500
    assert not table.groupby("group")["r"].apply(list).duplicated().any()


def test_large_data_stay_in_their_files(done, links, tmp_path, monkeypatch):
    monkeypatch.setenv(MEMORY_VARIABLE, "0")
    options = ("--leave-locus-out", "--paired", "--window", 20_000)
    assert run("peakgene", *files(done), "--output", tmp_path / "out", *SMALL, *options) == 0
    lazy = read_table(tmp_path / "out" / "peak_gene.tsv.gz")
    both = lazy.merge(read_table(links / "peak_gene.tsv.gz"), on=["gene", "peak"], suffixes=("", "_in_memory"))
    assert len(both) == len(lazy) > 100
    assert (both["r"] == both["r_in_memory"]).all()
    assert (both["r_paired"] == both["r_paired_in_memory"]).all()


def test_a_genome_changes_the_background(done, tmp_path):
    rng = np.random.default_rng(0)
    with (tmp_path / "genome.fa").open("wb") as file:
        for chrom in range(1, 5):
            gc = np.repeat(rng.integers(2, 9, 6_000), 1_000)  # tenths, of a kilobase each
            bases = np.where(np.tile(np.arange(10), 600_000) < gc, ord("G"), ord("A")).astype(np.uint8)
            file.write(b">%d\n" % chrom + bases.tobytes() + b"\n")
    common = ("peakgene", *files(done), *SMALL, "--window", 50_000)
    assert run(*common, "--output", tmp_path / "plain") == 0
    assert run(*common, "--output", tmp_path / "gc", "--fasta", tmp_path / "genome.fa") == 0
    plain, matched = (read_table(tmp_path / name / "peak_gene.tsv.gz") for name in ("plain", "gc"))
    assert (plain["r"] == matched["r"]).all()
    assert not np.allclose(plain["z"], matched["z"])
    assert np.corrcoef(plain["z"], matched["z"])[0, 1] > 0.9
    assert json.loads((tmp_path / "gc" / "peak_gene.json").read_text())["matched_gc"] is True


def bed(done, path, change):
    """A changed copy of the genes file."""
    genes = pd.read_csv(done.genes, sep="\t", header=None)
    change(genes)
    genes.to_csv(path, sep="\t", header=False, index=False)
    return path


def test_a_missing_chr_is_mended_and_said(done, tmp_path, capsys):
    def strip(genes):
        genes[0] = genes[0].str.removeprefix("chr")

    path = bed(done, tmp_path / "genes.bed", strip)
    assert run("peakgene", *files(done, genes=path), *SMALL, "--window", 20_000, "--output", tmp_path / "out") == 0
    said = capsys.readouterr().err
    assert "that was mended" in said
    assert "genes have no peak within 20,000 bp" in said or "links (FDR 0.05)" in said


WRONG_GENES = {
    "species": (lambda g: g.__setitem__(0, "2L"), "none of the peaks'", 2),
    "build": (lambda g: g.__setitem__([1, 2], g[[1, 2]] + 700_000), "another genome build or species", 2),
    "names": (lambda g: g.__setitem__(3, "ENSG" + g[3]), "named alike (symbols, not identifiers)", 2),
}


@pytest.mark.parametrize("kind", WRONG_GENES)
def test_wrong_genes(done, tmp_path, capsys, kind):
    change, message, code = WRONG_GENES[kind]
    path = bed(done, tmp_path / "genes.bed", change)
    assert run("peakgene", *files(done, genes=path), *SMALL, "--output", tmp_path / "out") == code
    assert message in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def changed_atac(done, path, change):
    """A changed copy of the prepared ATAC."""
    atac = ad.read_h5ad(done.atac)
    write_h5ad(change(atac) or atac, path)
    return path


def one_chromosome(atac):
    names = np.array(atac.uns["scmodal"]["peaks"])
    kept = np.char.startswith(names.astype(str), "chr1:")
    atac.obsm["peaks"] = atac.obsm["peaks"][:, kept]
    atac.uns["scmodal"]["peaks"] = names[kept]


def far_peaks(atac):
    atac.uns["scmodal"]["peaks"] = np.array(
        [
            f"chr{1 + i % 4}:{900_000_000 + 1000 * i}-{900_000_500 + 1000 * i}"
            for i in range(atac.obsm["peaks"].shape[1])
        ],
        dtype=object,
    )


def no_peaks(atac):
    del atac.obsm["peaks"]


def turned_peaks(atac):
    names = list(atac.uns["scmodal"]["peaks"])
    atac.uns["scmodal"]["peaks"] = np.array(["chr1:900-100", *names[1:]], dtype=object)


def other_cells(atac):
    atac.obs_names = "other-" + atac.obs_names


WRONG_ATAC = {
    "one chromosome": (one_chromosome, "all peaks are on one chromosome (chr1)", 3),
    "no peak in a window": (far_peaks, "lies within 250,000 bp of the start of one of the 200 genes", 2),
    "gene activity alone": (no_peaks, "no peaks in it (obsm['peaks'])", 2),
    "peaks that end before they start": (turned_peaks, "1 peaks do not end after their start ('chr1:900-100')", 2),
    "other cells": (other_cells, "of its 500 cells are not in", 2),
}


@pytest.mark.parametrize("kind", WRONG_ATAC)
def test_wrong_peaks_and_cells(done, tmp_path, capsys, kind):
    change, message, code = WRONG_ATAC[kind]
    path = changed_atac(done, tmp_path / "atac.h5ad", change)
    assert run("peakgene", *files(done, atac=path), *SMALL, "--output", tmp_path / "out") == code
    assert message in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_too_few_cells(done, tmp_path, capsys):
    path = changed_atac(done, tmp_path / "atac.h5ad", lambda atac: atac[:12].copy())
    assert run("peakgene", *files(done, atac=path), "--output", tmp_path / "out", "--max-overlap", 0) == 3
    assert "units of 5 alike cells" in capsys.readouterr().err


def test_peaks_of_few_cells_are_not_tested(done, tmp_path, capsys):
    given = ("peakgene", *files(done), *SMALL)
    assert run(*given, "--output", tmp_path / "out", "--min-cells", 200) == 0
    assert "they are open in fewer than 200 cells" in capsys.readouterr().err
    atac = ad.read_h5ad(done.atac)
    cells = pd.Series(atac.obsm["peaks"].getnnz(axis=0), index=list(atac.uns["scmodal"]["peaks"]))
    tested = set(read_table(tmp_path / "out" / "peak_gene.tsv.gz")["peak"])
    assert tested
    assert cells[list(tested)].min() >= 200
    assert cells.min() < 200
    assert run(*given, "--output", tmp_path / "none", "--min-cells", 500) == 3
    assert "a smaller --min-cells" in capsys.readouterr().err


def no_places(atac):
    del atac.var["chrom"]


def test_other_wrong_options(done, tmp_path, capsys):
    out = ("--output", tmp_path / "out", *SMALL)
    assert run("peakgene", *files(done), *out, "--plot-genes", "GENE3,gene41x") == 2
    assert "did you mean 'GENE41'?" in capsys.readouterr().err
    assert run("peakgene", *files(done), *out, "--group-key", "celltype") == 2
    assert "'cell_type'" in capsys.readouterr().err
    assert run("peakgene", *files(done, rna=done.atac), *out) == 2
    assert "prepared as atac, but rna data are needed here" in capsys.readouterr().err
    model = ("--model", done.integrated.parent / "model")
    assert run("peakgene", *files(done, integrated=done.rna), *model, *out) == 2
    assert "an .h5mu (MuData) is needed here" in capsys.readouterr().err
    atac = changed_atac(done, tmp_path / "atac.h5ad", no_places)
    assert run("peakgene", *files(done, atac=atac), *out, "--leave-locus-out") == 2
    assert "var of the atac data lacks chrom" in capsys.readouterr().err
    rna = ad.read_h5ad(done.rna)
    rna.obs_names = [f"R{name}" for name in rna.obs_names]
    write_h5ad(rna, tmp_path / "rna.h5ad")
    assert run("peakgene", *files(done, rna=tmp_path / "rna.h5ad"), *out, "--paired") == 2
    assert "only 0 of 500 ATAC cells have an RNA cell of the same name" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_a_model_without_atac(done, tmp_path, capsys):
    folder = tmp_path / "model"
    shutil.copytree(done.integrated.parent / "model", folder)
    description = json.loads((folder / "model.json").read_text())
    description["modalities"][1] = "protein"
    description["recipes"]["protein"] = description["recipes"].pop("atac")
    (folder / "model.json").write_text(json.dumps(description))
    weights = load_file(folder / "weights.safetensors")
    weights["cells.protein"] = weights.pop("cells.atac")
    save_file(weights, folder / "weights.safetensors")
    assert run("peakgene", *files(done, model=folder), *SMALL, "--output", tmp_path / "out") == 2
    assert "the model has no atac data (it has: rna, protein)" in capsys.readouterr().err


def test_a_model_of_another_run(done, tmp_path, capsys):
    folder = tmp_path / "model"
    shutil.copytree(done.integrated.parent / "model", folder)
    weights = load_file(folder / "weights.safetensors")
    save_file({name: 1.3 * values for name, values in weights.items()}, folder / "weights.safetensors")
    assert run("peakgene", *files(done, model=folder), *SMALL, "--output", tmp_path / "out") == 2
    assert "the ATAC cells do not lie where the model in" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_distances_are_counted_in_all_cells_alone():
    table = pd.DataFrame(
        {
            "group": ["all", "all", "all", "B"],
            "distance": [-500, 400_000, 2_000_000, 0],
            "fdr": [0.01, 1, 1, 0.0],
            "r": 0.5,
        }
    )
    rows = distance_decay(table, 0.05)
    assert [(row["from"], row["n_tested"], row["n_links"]) for row in rows] == [
        (0, 1, 1),
        (250_000, 1, 0),
        (1_000_000, 1, 0),
    ]


def test_a_simulation_is_written_as_the_pipeline_reads_it(tmp_path):
    sheet = write_link_simulation(simulate_links(n_cells=40, n_genes=20, n_chromosomes=2), tmp_path)
    assert list(pd.read_csv(sheet)["modality"]) == ["rna", "atac"]
    assert {p.name for p in tmp_path.iterdir()} == {
        "rna.h5ad",
        "atac.h5ad",
        "genes.bed",
        "truth.tsv",
        "samplesheet.csv",
    }
    from scmodal.genes import read_genes

    assert len(read_genes(tmp_path / "genes.bed")) == 20
