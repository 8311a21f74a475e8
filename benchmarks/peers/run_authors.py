"""The authors' own program (a checkout of github.com/gefeiwang/scMODAL, unmodified), given the input of preset `paper`.

Settings: its own (batches of 500), but for the number of steps, which is asked for: all 10,000 take it hours. The
input is the published one (docs/method.md): scaled columns, those of the links first. So what
is compared is the program itself.

Asked for (``asked.json``): `checkout`, the folder; its `commit`, for the record; `steps`.
"""

import sys

import numpy as np
import torch
from anndata import AnnData
from exchange import Task

if __name__ == "__main__":
    task = Task.from_arguments()
    asked = task.asked()
    sys.path.insert(0, asked["checkout"])
    from scmodal.model import Model  # the authors' package has the name of ours, which this environment lacks

    torch.set_num_threads(task.threads)
    with np.load(task.folder / "inputs.npz") as stored:
        first, second = stored["first"], stored["second"]
    model = Model(seed=task.seed, training_steps=asked["steps"], model_path=str(task.folder / "models"))
    model.preprocess(AnnData(first), AnnData(second), len(task.links()))
    model.train()
    model.eval()
    n = len(first)
    # its imputed values: the second's columns in the cells of the first, and the other way round
    np.savez(task.folder / "imputed.npz", first=model.data_Bspace[:n], second=model.data_Aspace[n:])
    task.finish(model.latent[:n], model.latent[n:], steps=asked["steps"], commit=asked["commit"])
