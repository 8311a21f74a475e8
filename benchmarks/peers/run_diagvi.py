"""DIAGVI of scvi-tools: our links are its guidance graph; chromatin as gene activity.

Settings: its own but for one: 50 latent dimensions, batches of 256, learning rate 1e-3, as many epochs as its rule
gives (400 up to 20,000 cells). Its early stopping, after 10 epochs without gain, is off: on 1,200 cells it ends
training after some 90 epochs, before the data sets have come together. Counts of genes and of gene
activity: negative binomial; of proteins: mixture of two, which is offered for them.
"""

import pandas as pd
import scvi
import torch
from exchange import Task
from scvi.external import DIAGVI

if __name__ == "__main__":
    task = Task.from_arguments()
    torch.set_num_threads(task.threads)
    scvi.settings.seed = task.seed
    chromatin = task.has_peaks()
    rna, other = task.data("first"), task.data("second")
    links = task.links()
    rna = rna[:, rna.var["highly_variable"] | rna.var_names.isin([a for a, _ in links])].copy()
    for adata, likelihood in ((rna, "nb"), (other, "nb" if chromatin else "nbmixture")):
        DIAGVI.setup_anndata(adata, layer="counts", likelihood=likelihood)
    mapping = pd.DataFrame(links, columns=["first", "second"])
    model = DIAGVI({"first": rna, "second": other}, mapping_df=mapping)
    model.train(accelerator="cpu", early_stopping=False)
    latents = model.get_latent_representation()
    task.finish(
        latents["first"], latents["second"], dimensions=latents["first"].shape[1], epochs=model.trainer.current_epoch
    )
