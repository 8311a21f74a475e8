"""What the search for links finds in simulated data: nothing where there is nothing, and what was planted."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
import scipy.sparse as sp
from sklearn.metrics import average_precision_score

from scmodal.peakgene.aggregate import accessibility, unit_means
from scmodal.peakgene.link import LinkSettings, link_peaks, other_correlation
from scmodal.peakgene.pairs import pairs_within, parse_peaks
from scmodal.peakgene.units import choose_units
from scmodal.simulate_links import LinkSimulation, simulate_links

from .peakgene_data import prepared_atac

SETTINGS = LinkSettings(background=100)


def log_normalised(counts):
    total = np.asarray(counts.sum(axis=1)).ravel()
    return sp.csr_matrix(sp.diags(np.median(total) / total) @ counts).log1p()


def search(simulation: LinkSimulation, cells: np.ndarray | None = None, gc: np.ndarray | None = None):
    """Pairs of a paired simulation, with measured expression over units of the true latent: honest noise, no model."""
    truth = simulation.atac.obsm["truth"]
    cells = np.arange(len(truth)) if cells is None else cells
    units = choose_units(truth[cells], 300, 20, 0.8)
    opened = accessibility(units, simulation.atac.X[cells])
    expressed = unit_means(units, log_normalised(simulation.rna.X[cells]))
    peaks = parse_peaks(list(simulation.atac.var_names))
    pairs = pairs_within(simulation.genes, peaks, 250_000)
    table = link_peaks(expressed, opened, simulation.genes, peaks, pairs, SETTINGS, gc)
    names = simulation.genes["gene"].to_numpy()[table["gene"]], peaks["peak"].to_numpy()[table["peak"]]
    planted = {(g, p): s for g, p, s in simulation.truth[["gene", "peak", "strength"]].itertuples(index=False)}
    table["strength"] = [planted.get(pair, 0.0) for pair in zip(*names)]
    return table, units, opened


@pytest.mark.parametrize("with_gc", [False, True])
def test_p_values_without_links_are_uniform(with_gc):
    p = []
    for seed in range(3):
        simulation = simulate_links(n_cells=600, n_genes=150, links=False, promoter_strength=0.0, seed=seed)
        gc = np.random.default_rng(seed).uniform(0.3, 0.7, simulation.atac.n_vars) if with_gc else None
        p += list(search(simulation, gc=gc)[0]["p"])
    p = np.array(p)
    assert len(p) > 10_000
    for level in (0.001, 0.01, 0.05, 0.2, 0.5, 0.8):
        # pairs of one gene share its noise, so that there is less in them than in as many independent ones
        error = 3 * np.sqrt(level * (1 - level) / len(p))
        assert abs((p < level).mean() - level) < 1.5 * error, level


def test_peaks_of_single_cells_can_be_kept_out():
    """Peaks of one deep cell fill a bin with the same values; what differs among them is far from those that do not."""
    rng = np.random.default_rng(0)
    units, several, single = 40, 600, 600
    counts = rng.poisson(1.0, (several + single, units)).astype(np.float32)
    counts[several:] = 0
    counts[several:, :5] = 1  # all but a few are of a cell in the first five units
    counts[several :: single // 4, :5], counts[several :: single // 4, 5:10] = 0, 1  # these of one in the next five
    genes = pd.DataFrame({"chrom": ["chr1", "chr2"] * 20})
    peaks = pd.DataFrame({"chrom": ["chr1", "chr2"] * ((several + single) // 2)})
    pairs = pd.DataFrame(
        {"gene": np.tile(np.arange(40), several + single), "peak": np.repeat(range(several + single), 40)}
    )
    given = (rng.normal(size=(40, units)).astype(np.float32), np.log1p(counts), genes, peaks, pairs, SETTINGS, None)
    usable = np.arange(several + single) < several
    tables = link_peaks(*given), link_peaks(*given, usable)
    weak = [table["z"][table["r"].abs() < 0.1].abs().max() for table in tables]
    assert weak[0] > 5  # hardly any correlation, and yet far from the background, which does not vary
    assert weak[1] < 2
    assert set(tables[1]["peak"]) == set(range(several))


def test_links_are_seldom_found_where_there_are_none():
    """The false discovery rate of 5 % allows a finding in one of twenty data sets: of 20, more than 4 once in 400."""
    found = 0
    for seed in range(20):
        simulation = simulate_links(
            n_cells=300, n_genes=60, n_chromosomes=3, links=False, promoter_strength=0.0, seed=100 + seed
        )
        found += bool((search(simulation)[0]["fdr"] <= 0.05).any())
    assert found <= 4


@pytest.fixture(scope="module")
def linked():
    """Three data sets with links."""
    found = []
    for seed in range(3):
        simulation = simulate_links(n_genes=150, seed=seed)
        table, units, opened = search(simulation)
        found.append(SimpleNamespace(simulation=simulation, table=table, units=units, opened=opened))
    return found


def test_false_discoveries_are_no_more_than_said(linked):
    links = [t.table[t.table["fdr"] <= 0.05] for t in linked]
    n = sum(map(len, links))
    false = sum(int((part["strength"] == 0).sum()) for part in links)
    assert n > 150
    assert false / n < 0.05 + 3 * np.sqrt(0.05 * 0.95 / n)


def test_planted_links_rank_above_distance_and_gene_activity(linked):
    for item in linked:
        distal = (item.table["distance"].abs() > 2_000).to_numpy()
        true = (item.table["strength"] != 0).to_numpy()[distal]
        activity = prepared_atac(item.simulation)
        rows = activity.var_names.get_indexer(item.simulation.genes["gene"])
        by_activity = other_correlation(item.table, unit_means(item.units, activity.X), item.opened, rows)
        ours = average_precision_score(true, item.table["z"].abs()[distal])
        distance = average_precision_score(true, -item.table["distance"].abs()[distal])
        gene_activity = average_precision_score(true, np.abs(np.nan_to_num(by_activity))[distal])
        assert ours > 0.75
        assert ours > distance + 0.4
        assert ours > gene_activity + 0.2


def test_signs_are_kept(linked):
    for item in linked:
        links = item.table[(item.table["fdr"] <= 0.05) & (item.table["strength"] != 0)]
        negative = links["strength"] < 0
        assert negative.sum() >= 5
        assert (np.sign(links["r"]) == np.sign(links["strength"])).mean() > 0.99
        assert (np.sign(links["z"]) == np.sign(links["strength"])).mean() > 0.99


def test_links_of_one_cell_type_are_found_there():
    simulation = simulate_links(
        n_cells=1500, n_genes=100, n_cell_types=3, group_specific=1.0, negative=0.0, seed=4, openness=0.6
    )
    types = simulation.atac.obs["cell_type"].to_numpy()
    in_type = set(
        simulation.truth.loc[simulation.truth["cell_type"] == "type_1", ["gene", "peak"]].itertuples(
            index=False, name=None
        )
    )
    genes, peaks = simulation.genes["gene"].to_numpy(), np.array(simulation.atac.var_names)
    r = {}
    for name in ("type_1", "type_2"):
        table = search(simulation, np.flatnonzero(types == name))[0]
        planted = np.array([pair in in_type for pair in zip(genes[table["gene"]], peaks[table["peak"]])])
        r[name] = table["r"].to_numpy()[planted]
    assert len(r["type_1"]) > 20
    assert np.median(r["type_1"]) > 0.55
    assert abs(np.median(r["type_2"])) < 0.3


def test_the_same_seed_gives_the_same_links():
    simulation = simulate_links(n_cells=200, n_genes=40, n_chromosomes=2, seed=5)
    first, second = search(simulation)[0], search(simulation)[0]
    assert first.equals(second)
    assert (simulate_links(n_cells=200, n_genes=40, n_chromosomes=2, seed=5).atac.X != simulation.atac.X).nnz == 0


def test_a_simulation_is_what_it_says():
    simulation = simulate_links(n_cells=4000, n_genes=40, n_chromosomes=2, seed=6, openness=3.0, negative=0.3)
    counts = {name: adata.to_df() for name, adata in (("rna", simulation.rna), ("atac", simulation.atac))}
    kind = simulation.atac.var["kind"]
    assert set(kind) == {"promoter", "link", "decoy", "distal"}
    assert (kind == "promoter").sum() == 40
    planted = simulation.truth.merge(kind.rename("kind"), left_on="peak", right_index=True)
    links = planted[planted["kind"] == "link"]
    r = np.array(
        [
            np.corrcoef(np.log1p(counts["rna"][g]), np.log1p(counts["atac"][p]))[0, 1]
            for g, p in links.iloc[:, :2].values
        ]
    )
    assert (np.sign(r) == np.sign(links["strength"])).mean() > 0.95
    assert (links["strength"] < 0).any()
    genes = simulation.genes.set_index("gene")
    peaks = parse_peaks(list(simulation.atac.var_names)).set_index("peak")
    away = [abs(genes.loc[g, "tss"] - peaks.loc[p, "middle"]) for g, p in zip(links["gene"], links["peak"])]
    assert max(away) <= 250_000
    assert all(genes.loc[g, "chrom"] == peaks.loc[p, "chrom"] for g, p in zip(links["gene"], links["peak"]))
    unpaired = simulate_links(n_cells=50, n_genes=40, n_chromosomes=2, paired=False)
    assert not set(unpaired.rna.obs_names) & set(unpaired.atac.obs_names)
