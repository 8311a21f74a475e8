"""GLUE: proteins are linked to their genes by our links, peaks to the genes they lie in or before.

Settings: of the authors' tutorial (docs/preprocessing.ipynb, docs/training.ipynb): the 2,000 most variable genes
(here with the linked ones), negative binomial counts, 100 principal components of scaled genes and 100 of LSI as the
encoders' input; peaks within the gene or 2,000 bp before it, only those of the genes that are used. Proteins: normal,
after the centred log ratio, which the contributor of GLUE's part for CITE-seq found better than the mixture of
negative binomials (GLUE, pull request 114). Epochs, burn-in, patience and learning rate: GLUE's own, early stopping
included.

On request (``asked.json``): `reach`, base pairs beyond gene and promoter up to which peaks are linked, too, with GLUE's
own weights that fall with the distance, as for its regulatory inference; `features`, whether the embeddings of genes
and peaks are written (``features.npz``: `names`, `embeddings`), whose cosines are its regulatory scores; `min_cells`,
in which a used peak has to be open; `max_epochs` and `minutes` of each of its two trainings. Minutes end a training as
Ctrl-C does: GLUE goes on with the best weights it has by then.
"""

import os
import signal

import networkx as nx
import numpy as np
import pandas as pd
import scanpy as sc
import scglue
import torch
from anndata import AnnData
from exchange import Task

MOST_VARIABLE = 2000
COMPONENTS = 100
PROMOTER = 2000


def genes(rna: AnnData, linked: set[str]) -> AnnData:
    """RNA with its counts, the genes that are used, and the components."""
    rank = rna.var["highly_variable_rank"].fillna(np.inf)
    rna.var["highly_variable"] = (rank.rank(method="first") <= MOST_VARIABLE) & np.isfinite(rank)
    rna.var["highly_variable"] |= rna.var_names.isin(list(linked))
    scaled = rna.copy()
    sc.pp.scale(scaled)
    sc.tl.pca(scaled, n_comps=min(COMPONENTS, min(rna.shape) - 1))
    rna.obsm["X_pca"] = scaled.obsm["X_pca"]
    scglue.models.configure_dataset(rna, "NB", use_highly_variable=True, use_layer="counts", use_rep="X_pca")
    return rna


def proteins(other: AnnData) -> AnnData:
    """Proteins by the centred log ratio of each cell's counts."""
    counts = other.layers["counts"]
    logs = np.log1p(np.asarray(counts.todense() if hasattr(counts, "todense") else counts, dtype=np.float64))
    other.layers["clr"] = (logs - logs.mean(axis=1, keepdims=True)).astype(np.float32)
    other.X = other.layers["clr"]
    # a name may be that of a gene, too
    other.var_names = [f"protein {name}" for name in other.var_names]
    other.var["highly_variable"] = True
    scglue.models.configure_dataset(other, "Normal", use_highly_variable=True)
    return other


def neighbours(where: pd.DataFrame, peaks: pd.DataFrame, reach: int) -> list[tuple[str, str, float]]:
    """(gene, peak, weight) for each peak in a gene or its promoter, or within reach of them."""
    pairs = []
    for chrom, of_chrom in peaks.groupby("chrom", observed=True):
        starts, ends, names = (of_chrom[c].to_numpy() for c in ("start", "end", "name"))
        for name, start, end, strand in where.loc[where["chrom"] == chrom, ["start", "end", "strand"]].itertuples():
            low, high = (start - PROMOTER, end) if strand != "-" else (start, end + PROMOTER)
            # 0 where they overlap; those that only touch do not
            away = np.maximum(np.maximum(starts - high + 1, low + 1 - ends), 0)
            near = away <= reach
            weights = scglue.genomics.dist_power_decay(away[near])
            pairs += [(name, peak, float(weight)) for peak, weight in zip(names[near], weights)]
    return pairs


def chromatin(peaks: AnnData, wanted: set[str]) -> AnnData:
    """Peaks with their counts, those that are used, and the components of LSI."""
    peaks.var["highly_variable"] = peaks.var_names.isin(list(wanted))
    peaks.layers["counts"] = peaks.X.copy()
    scglue.data.lsi(peaks, n_components=COMPONENTS, n_iter=15)
    scglue.models.configure_dataset(peaks, "NB", use_highly_variable=True, use_layer="counts", use_rep="X_lsi")
    return peaks


class Clock:
    """Ends each training after some minutes, and keeps what the trainings came to."""

    def __init__(self, minutes: float | None) -> None:
        self.minutes = minutes
        self.trainings: list[dict] = []
        # started in the background, a process ignores Ctrl-C
        signal.signal(signal.SIGINT, signal.default_int_handler)
        trainer, model = scglue.models.scglue.SCGLUETrainer, scglue.models.SCGLUEModel
        fit, report = model.fit, trainer.report_metrics

        def timed(itself, *args, **kwargs):
            self.trainings.append({"epochs": 0, "out_of_time": False, "losses": []})
            signal.signal(signal.SIGALRM, self.ring)
            signal.setitimer(signal.ITIMER_REAL, 60 * (self.minutes or 0))
            try:
                return fit(itself, *args, **kwargs)
            finally:
                signal.setitimer(signal.ITIMER_REAL, 0)

        def reported(itself, train_state, val_state):
            self.trainings[-1]["epochs"] = train_state.epoch
            self.trainings[-1]["losses"].append(
                round(float((val_state or train_state).metrics[itself.earlystop_loss]), 5)
            )
            return report(itself, train_state, val_state)

        model.fit, trainer.report_metrics = timed, reported

    def ring(self, *_) -> None:
        """As Ctrl-C, which GLUE answers at the end of the epoch."""
        self.trainings[-1]["out_of_time"] = True
        os.kill(os.getpid(), signal.SIGINT)


def graph(edges: list[tuple[str, str, float]], *adatas: AnnData) -> nx.MultiDiGraph:
    """Guidance graph: edges both ways, and every used feature with itself."""
    guidance = nx.MultiDiGraph()
    for adata in adatas:
        for name in adata.var_names[adata.var["highly_variable"]]:
            guidance.add_edge(name, name, weight=1.0, sign=1, type="loop")
    for a, b, weight in edges:
        guidance.add_edge(a, b, weight=weight, sign=1, type="fwd")
        guidance.add_edge(b, a, weight=weight, sign=1, type="rev")
    return guidance


if __name__ == "__main__":
    task = Task.from_arguments()
    torch.set_num_threads(task.threads)
    links, asked = task.links(), task.asked()
    rna = task.data("first")
    if task.has_peaks():
        rna = genes(rna, set())
        peaks, located = task.data("peaks"), task.data("second").var
        peaks = peaks[:, np.asarray((peaks.X > 0).sum(axis=0)).ravel() >= asked.get("min_cells", 0)].copy()
        used = located[located.index.isin(rna.var_names[rna.var["highly_variable"]])]
        edges = neighbours(used, peaks.var.assign(name=peaks.var_names), asked.get("reach", 0))
        second = chromatin(peaks, {peak for _, peak, _ in edges})
    else:
        rna = genes(rna, {a for a, _ in links})
        edges = [(a, f"protein {b}", 1.0) for a, b in links]
        second = proteins(task.data("second"))
    guidance = graph(edges, rna, second)
    training = {"directory": str(task.folder / "glue")}
    if "max_epochs" in asked:
        training["max_epochs"] = asked["max_epochs"]
    clock = Clock(asked.get("minutes"))
    model = scglue.models.fit_SCGLUE(
        {"first": rna, "second": second}, guidance, init_kws={"random_seed": task.seed}, fit_kws=training
    )
    if asked.get("features"):
        names = np.array([str(name) for name in model.vertices])
        np.savez(task.folder / "features.npz", names=names, embeddings=model.encode_graph(guidance))
    task.finish(
        model.encode_data("first", rna),
        model.encode_data("second", second),
        features=[int(rna.var["highly_variable"].sum()), int(second.var["highly_variable"].sum())],
        edges=len(edges),
        **({"trainings": clock.trainings} if asked else {}),
    )
