"""Chromatin data as `scmodal preprocess --modality atac` prepares them, made from a simulation."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import anndata as ad
import numpy as np
import pandas as pd
import scipy.sparse as sp

from scmodal import ScModal, preprocess
from scmodal.io import write_h5ad
from scmodal.peakgene.pairs import parse_peaks
from scmodal.results import write_run
from scmodal.simulate_links import LinkSimulation

UPSTREAM = 2000


def prepared_atac(simulation: LinkSimulation, label_key: str | None = "cell_type") -> ad.AnnData:
    """Gene activity (body and upstream, plain sum) with the peaks beside it."""
    genes, peaks = simulation.genes, parse_peaks(list(simulation.atac.var_names))
    plus = (genes["strand"] == "+").to_numpy()
    start = genes["start"].to_numpy() - np.where(plus, UPSTREAM, 0)
    end = genes["end"].to_numpy() + np.where(plus, 0, UPSTREAM)
    inside = (peaks["chrom"].to_numpy()[:, None] == genes["chrom"].to_numpy()) & (
        (peaks["end"].to_numpy()[:, None] > start) & (peaks["start"].to_numpy()[:, None] < end)
    )
    activity = sp.csr_matrix(simulation.atac.X @ sp.csr_matrix(inside.astype(np.float32)))
    var = pd.DataFrame(index=pd.Index(genes["gene"].to_numpy(dtype=object)))
    adata = preprocess.rna(ad.AnnData(activity, obs=simulation.atac.obs.copy(), var=var), label_key=label_key)
    places = genes.set_index("gene").loc[adata.var_names]
    for column in ("chrom", "start", "end", "strand", "gene_id"):
        adata.var[column] = places[column].to_numpy()
    kept = simulation.atac.obs_names.get_indexer(adata.obs_names)
    adata.obsm["peaks"] = sp.csr_matrix(simulation.atac.X)[kept]
    own = adata.uns["scmodal"]
    own["modality"] = "atac"
    own["peaks"] = np.array(simulation.atac.var_names, dtype=object)
    own["genome"] = ""
    own["gene_activity"] = {"upstream": UPSTREAM, "mode": "sum"}
    return adata


def written_run(simulation: LinkSimulation, folder: Path, **settings: object) -> SimpleNamespace:
    """A trained integration of a simulation, and everything that `scmodal peakgene` reads, as files."""
    rna = preprocess.rna(simulation.rna, label_key="cell_type")
    atac = prepared_atac(simulation)
    write_h5ad(rna, folder / "rna.h5ad")
    write_h5ad(atac, folder / "atac.h5ad")
    simulation.genes[["chrom", "start", "end", "gene", "strand"]].to_csv(
        folder / "genes.bed", sep="\t", header=False, index=False
    )
    model = ScModal(seed=0, threads=1, **settings).fit({"rna": rna, "atac": atac})
    write_run(model, [rna, atac], folder / "run")
    return SimpleNamespace(
        **{name: folder / f"{name}.h5ad" for name in ("rna", "atac")},
        genes=folder / "genes.bed",
        integrated=folder / "run" / "integrated.h5mu",
        model=model,
        simulation=simulation,
    )


def true_pairs(simulation: LinkSimulation, table: pd.DataFrame) -> np.ndarray:
    """Which of the tested pairs (`gene`, `peak` by name) were planted."""
    planted = set(zip(simulation.truth["gene"], simulation.truth["peak"]))
    return np.array([pair in planted for pair in zip(table["gene"], table["peak"])])
