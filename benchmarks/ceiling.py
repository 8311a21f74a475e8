#!/usr/bin/env python
"""What a cell's own measurement can tell of its label: the accuracy of classifiers that are given the labels.

    python benchmarks/ceiling.py --data ../shared/data      # a minute

Labels of the published data sets were made from other measurements of the same cells, too. So no method can give all
cells of a modality their labels back, and how near label transfer comes to one is told by what can be had with the
labels of the very cells: the nearest other cell of the same modality, the votes of 15, and logistic regression
(5-fold cross-validation), all on 50 principal components, of chromatin with its LSI beside them. The JSON is read by
tables.py, which puts `default` beside these (quality.json and transfer.json).
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import driving
import numpy as np
import quality

HERE = Path(__file__).resolve().parent
COMPONENTS = 50
VOTES = 15


def representation(adata: Any) -> np.ndarray:
    """Principal components of the scaled values (cells x 50, fewer of few features), and LSI where there is one."""
    from scmodal.components import principal_components

    values = adata.X.toarray() if hasattr(adata.X, "toarray") else np.asarray(adata.X)
    scaled = np.clip((values - values.mean(0)) / np.maximum(values.std(0), 1e-6), -10, 10).astype(np.float32)
    parts = [principal_components(scaled, min(COMPONENTS, scaled.shape[1]))]
    if "X_lsi" in adata.obsm:
        parts.append(np.asarray(adata.obsm["X_lsi"]))
    return np.hstack([part / part.std() for part in parts])


def known(adata: Any) -> dict[str, Any]:
    """Accuracy of each classifier on the labelled cells of a modality."""
    from sklearn.linear_model import LogisticRegression
    from sklearn.model_selection import cross_val_score
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    from scmodal.neighbours import nearest_neighbours
    from scmodal.transfer import clean_labels

    labels, present = clean_labels(adata.obs[adata.uns["scmodal"]["label_key"]])
    z, labels = representation(adata)[present], labels[present].astype(str)
    names, codes = np.unique(labels, return_inverse=True)
    beside = codes[nearest_neighbours(z, None, VOTES)[0]]
    votes = np.stack([(beside == code).sum(axis=1) for code in range(len(names))], axis=1)
    classifier = make_pipeline(StandardScaler(), LogisticRegression(C=0.1, max_iter=1000))
    return {
        "modality": adata.uns["scmodal"]["modality"],
        "cells": len(codes),
        "labels": len(names),
        "nearest": float((beside[:, 0] == codes).mean()),
        "votes": float((votes.argmax(axis=1) == codes).mean()),
        "logistic_regression": float(cross_val_score(classifier, z, labels, cv=5).mean()),
    }


def main() -> None:
    """Measure and write the JSON."""
    parser = driving.command_line(__doc__, HERE / "ceiling.json")
    options = driving.parsed(parser)

    from scmodal.io import write_json

    results = driving.earlier_results(options, "data_sets")
    for name in quality.PUBLISHED_PAIRS:
        results["data_sets"][name] = [known(adata) for adata in quality.prepared(name, options.data)]
        print(name, results["data_sets"][name], flush=True)
    write_json(results, options.output)


if __name__ == "__main__":
    main()
