"""How the result came about: messages, settings, versions, a text for the methods section, and how to go on."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
from markupsafe import Markup

from scmodal.contracts import MODALITY_TITLES
from scmodal.report.page import Section, capital, join_words, table
from scmodal.report.reading import ReportData

CITATION = (
    "Wang G, Zhao J, Lin Y, Liu T, Zhao Y, Zhao H. scMODAL: a general deep learning framework for comprehensive"
    " single-cell multi-omics data alignment with feature links. Nature Communications (2025)."
    " doi:10.1038/s41467-025-60333-z"
)

_FROM_COUNTS = "were normalised to equal totals per cell, log-transformed and scaled"


def messages_section(data: ReportData) -> Section:
    """Everything that preprocessing and training had to say, grouped by where it was said."""
    blocks = Markup("")
    for modality in data.modalities:
        blocks += _messages(capital(modality.title), _strings(modality.info.get("messages")))
    for i, run in enumerate(data.runs):
        name = "Training" if len(data.runs) == 1 else f"Training, seed {run.seed if run.seed is not None else i + 1}"
        blocks += _messages(name, _strings(run.metrics.get("messages")))
    lead = (
        "What was done to the data on the way, and what was noticed."
        if blocks
        else "Preprocessing and training had nothing to say."
    )
    return Section("messages", "Messages", lead, body=blocks)


def settings_section(data: ReportData) -> Section:
    """Data sets, parameters of the run and of the preset, software versions."""
    model, metrics = data.runs[0].model, data.runs[0].metrics
    rows = [
        [
            capital(m.title),
            f"{len(m.cells):,}",
            f"{len(m.features):,}",
            m.label_key or "–",
            str(m.info.get("batch_key") or "–"),
            ", ".join(_strings(m.info.get("source"))) or "–",
        ]
        for m in data.modalities
    ]
    body = Markup("<h3>Data</h3>") + table(
        ["modality", "cells", "features", "labels", "batches", "file"], rows, numeric=[1, 2]
    )
    if data.params:
        body += Markup("<h3>Parameters of the run</h3>") + _settings(data.params)
    preset = model.get("preset")
    if isinstance(preset, Mapping):
        body += Markup("<h3>Preset <em>{}</em></h3>").format(preset.get("name", "")) + _settings(
            {k: v for k, v in preset.items() if k != "name"}
        )
    versions = model.get("versions") or metrics.get("versions") or {}
    if versions:
        body += Markup("<h3>Software</h3>") + _settings(versions)
    return Section("settings", "Settings and versions", body=body)


def methods_section(data: ReportData) -> Section:
    """A paragraph to start a methods section from, and how to go on with the results."""
    body = Markup("<blockquote><p>{}</p></blockquote><p class='cite'>{}</p>").format(methods_text(data), CITATION)
    first = data.modalities[0].name
    keys = {m.label_key for m in data.modalities if m.label_key}
    colour = json.dumps(["modality", *sorted(keys)])
    snippet = f"""import anndata
import mudata
import scanpy as sc

mdata = mudata.read("integrated.h5mu")          # modalities: {", ".join(m.name for m in data.modalities)}
joint = anndata.concat(mdata.mod, label="modality", join="outer", index_unique="-")
sc.pp.neighbors(joint, use_rep="X_scmodal")     # the shared latent space, cells of all modalities
sc.tl.umap(joint)
sc.pl.umap(joint, color={colour})

from scmodal.model import ScModal               # the trained model, for more cells or other directions
model = ScModal.load("model")
latent = model.embed(mdata.mod["{first}"], modality="{first}")"""
    body += Markup("<h3>How to go on</h3><pre><code>{}</code></pre>").format(snippet)
    return Section("methods", "For your methods section", body=body)


def methods_text(data: ReportData) -> str:
    """One paragraph that says what was done, with the numbers of this run."""
    run = data.runs[0]
    preset = run.model.get("preset") if isinstance(run.model.get("preset"), Mapping) else {}
    preset = dict(preset or {})
    sizes = join_words([f"{len(m.cells):,} {MODALITY_TITLES.get(m.name, m.name)} cells" for m in data.modalities])
    linked = run.model.get("links")
    n_links = len(linked) if isinstance(linked, list) else run.metrics.get("n_links")
    version = run.model.get("scmodal_version")
    sentences = [
        f"{sizes} were integrated with the scMODAL method as implemented in the package scmodal"
        + (f" (version {version})." if version else ".")
    ]
    counted = [m.title for m in data.modalities if m.name != "cytometry"]
    if counted:
        sentences.append(f"{capital(join_words(counted))} counts {_FROM_COUNTS}.")
    if any(m.name == "cytometry" for m in data.modalities):
        sentences.append("Cytometry values were used on the arcsinh scale and scaled.")
    settings = []
    if preset.get("name"):
        settings.append(f"preset “{preset['name']}”")
    steps = run.metrics.get("steps") or preset.get("steps") or len(run.history)
    settings.append(f"{steps:,} steps")
    drawn = run.metrics.get("batch_sizes")
    batches = sorted(set(drawn.values())) if isinstance(drawn, Mapping) and drawn else [preset.get("batch_size")]
    if all(isinstance(b, int) for b in batches):
        settings.append(f"minibatches of {' and '.join(f'{b:,}' for b in batches)} cells per modality")
    sentences.append(
        f"Encoders and generators of each modality and {_discriminators(data)} were trained"
        f" ({', '.join(settings)}) towards a shared latent space of {data.modalities[0].z.shape[1]} dimensions"
        + (f", guided by mutual nearest neighbours in {n_links:,} linked feature pairs" if n_links else "")
        + ", a latent cycle, and the similarity of cells within each modality."
    )
    seeds = [str(r.seed) for r in data.runs if r.seed is not None]
    if len(data.runs) > 1:
        sentences.append(
            f"Training was repeated with {len(data.runs)} random seeds"
            + (f" ({', '.join(seeds)})" if seeds else "")
            + "; numbers are means over seeds and pictures show the first."
        )
    elif seeds:
        sentences.append(f"The random seed was {seeds[0]}.")
    if data.transfers:
        sentences.append("Labels were transferred by a vote of the nearest cells in the latent space.")
    if data.imputed:
        sentences.append("Features were imputed by decoding a cell's latent with the generator of the other modality.")
    if any(e.get("foscttm") for e in data.evaluations):
        sentences.append(
            "FOSCTTM is the fraction of cells of the other modality closer than the true partner, averaged over cells"
            " and both directions; the pairing was not used in training."
        )
    return " ".join(sentences)


def _discriminators(data: ReportData) -> str:
    """How many discriminators, and of what where there are several pairs."""
    if len(data.matched) < 2:
        return "an adversarial discriminator"
    pairs = [" with ".join(MODALITY_TITLES.get(name, name) for name in pair) for pair in data.matched]
    return f"an adversarial discriminator of each matched pair ({join_words(pairs)})"


def _settings(values: Mapping[str, Any]) -> Markup:
    """Names and values in columns."""
    items = Markup("").join(
        Markup("<li><span>{}</span> <b>{}</b></li>").format(k, _plain(v)) for k, v in values.items()
    )
    return Markup('<ul class="settings">{}</ul>').format(items)


def _messages(title: str, messages: list[str]) -> Markup:
    if not messages:
        return Markup("")
    items = Markup("").join(Markup("<li>{}</li>").format(m) for m in messages)
    return Markup('<h3>{}</h3><ul class="messages">{}</ul>').format(title, items)


def _strings(values: Any) -> list[str]:
    """List of texts from what a file gave back for one: a list, an array, a single text or nothing."""
    if values is None:
        return []
    if isinstance(values, str):
        return [values] if values else []
    if isinstance(values, Iterable):
        return [str(v) for v in np.asarray(list(values), dtype=object).ravel()]
    return [str(values)]


def _plain(value: Any) -> str:
    """A setting as a reader would write it."""
    if value is None or value == "":
        return "–"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, Mapping | list | tuple):
        return json.dumps(value, default=str)
    return f"{value:,}" if isinstance(value, int) and abs(value) >= 10_000 else str(value)
