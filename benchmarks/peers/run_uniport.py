"""uniPort, horizontal mode: the linked features are its common features, the 2,000 most variable of each its specific
ones.

Settings: of the authors' tutorials (docs/source/examples/PBMC/pbmc_integration.ipynb): counts per cell, log1p,
largest value of each feature 1 in each data set, RNA last (the reference), lambda_s 1; all else by default: batches
of 256, learning rate 2e-4, at most 30,000 iterations, early stopping after 30 epochs without gain.
"""

import anndata
import numpy as np
import scipy.sparse as sp
import torch
import uniport
from exchange import Task

MOST_VARIABLE = 2000


def scaled(adata: anndata.AnnData) -> anndata.AnnData:
    """Dense, with the largest value of each feature 1 in each data set."""
    adata.X = np.asarray(adata.X.todense() if sp.issparse(adata.X) else adata.X, dtype=np.float32)
    uniport.batch_scale(adata)
    return adata


def domain(adata: anndata.AnnData, number: int) -> anndata.AnnData:
    """Mark a data set as uniPort wants it."""
    adata.obs["domain_id"] = np.full(adata.n_obs, str(number))
    adata.obs["domain_id"] = adata.obs["domain_id"].astype("category")
    adata.obs["source"] = f"source{number}"
    return adata


if __name__ == "__main__":
    task = Task.from_arguments()
    torch.set_num_threads(task.threads)
    links = task.links()
    rna, other = task.data("first"), task.data("second")
    common, specific = [], []
    for number, (adata, names) in enumerate(((other, [b for _, b in links]), (rna, [a for a, _ in links]))):
        columns = adata.var_names.get_indexer(names)
        block = anndata.AnnData(X=adata.X[:, columns].copy())
        block.obs_names = adata.obs_names
        block.var_names = [f"link{i}" for i in range(len(links))]
        common.append(domain(block, number))
        if "highly_variable_rank" in adata.var:
            adata = adata[:, np.sort(adata.var["highly_variable_rank"].fillna(np.inf).argsort()[:MOST_VARIABLE])].copy()
        # only what uniPort needs
        specific.append(scaled(domain(anndata.AnnData(X=adata.X, obs=adata.obs[[]].copy()), number)))
    joint = anndata.concat(common)
    joint.obs["domain_id"] = joint.obs["domain_id"].astype("category")
    found = uniport.Run(
        adatas=specific,
        adata_cm=scaled(joint),
        lambda_s=1.0,
        seed=task.seed,
        outdir=str(task.folder / "uniport"),
    )
    latent = np.asarray(found.obsm["latent"])
    n = other.n_obs
    task.finish(latent[n:], latent[:n], dimensions=latent.shape[1], most_iterations=30000)
