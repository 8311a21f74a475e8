"""The report, made from result folders as `integrate`, `transfer`, `impute` and `evaluate` leave them."""

from __future__ import annotations

import base64
import hashlib
import json
import re
import shutil
from collections.abc import Callable
from dataclasses import dataclass, field
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import anndata as ad
import mudata
import numpy as np
import pandas as pd
import pytest
import scipy.sparse as sp

from scmodal.contracts import InputError
from scmodal.inputs import Block, Recipe
from scmodal.io import write_h5ad, write_h5mu, write_json, write_parquet, write_tsv
from scmodal.report import build_report
from scmodal.report.labels import labels_section
from scmodal.report.reading import read_report_data

TYPES = ["CD4 T", "CD8 T", "B <script>alert('x')</script>", "NK", "Mono & DC"]
PROTEINS = ["CD3", "CD4", "CD8a", "CD19", "CD56", "CD14", 'HLA-DR"><img src=x onerror=alert(1)>', "IgG1-control"]


@dataclass
class Inputs:
    """Arguments of build_report."""

    runs: list[Path]
    coverage: Path | None = None
    evaluations: list[Path] = field(default_factory=list)
    transfers: list[Path] = field(default_factory=list)
    imputed: list[Path] = field(default_factory=list)
    params: dict[str, Any] | None = None

    def build(self, output: Path, **more: Any) -> str:
        build_report("pbmc", output=output, date="2025-01-01", **{**self.__dict__, **more})
        return output.read_text(encoding="utf-8")


def make_inputs(
    folder: Path, *, n: int = 60, seeds: int = 1, paired: bool = True, labels: bool = True, extra_genes: int = 0
) -> Inputs:
    """Results with structure: labels form islands in the latent, and imputed values follow measured ones."""
    rng = np.random.default_rng(3)
    kinds = rng.integers(0, len(TYPES), n)
    centres = rng.normal(0, 3, (len(TYPES), 20))
    genes = [f"GENE{i}" for i in range(12 + extra_genes)]
    cells = {"rna": [f"cell{i}" for i in range(n)], "protein": [f"cell{i}" if paired else f"p{i}" for i in range(n)]}
    modalities = {}
    for name, features in (("rna", genes), ("protein", PROTEINS)):
        counts = rng.poisson(rng.uniform(1, 60, (len(TYPES), len(features)))[kinds]).astype(np.float32)
        x = np.log1p(counts * 1000 / counts.sum(axis=1, keepdims=True)).astype(np.float32)
        obs = pd.DataFrame(index=cells[name])
        if labels:
            obs["cell_type"] = pd.Categorical(np.array(TYPES)[kinds])
        modality = ad.AnnData(sp.csr_matrix(x), obs=obs, var=pd.DataFrame(index=features))
        modality.layers["counts"] = sp.csr_matrix(counts)
        modality.obsm["X_scmodal"] = (centres[kinds] + rng.normal(0, 0.4, (n, 20))).astype(np.float32)
        modality.uns["scmodal"] = {
            "modality": name,
            "label_key": "cell_type" if labels else "",
            "batch_key": "",
            "source": [f"{name}.h5ad"],
            "messages": [f"{name}: 3 constant columns dropped <b>bold</b>"],
        }
        modalities[name] = modality
    mdata = mudata.MuData(modalities)
    mdata.uns["scmodal"] = {"modalities": ["rna", "protein"]}

    runs, evaluations = [], []
    for seed in range(seeds):
        run = folder / f"run{seed}"
        (run / "model").mkdir(parents=True)
        if seed == 0:
            write_h5mu(mdata, run / "integrated.h5mu")
        steps = np.arange(1, 301)
        history = pd.DataFrame({"step": steps})
        for i, name in enumerate(("gan", "autoencoder", "cycle", "anchor", "total")):
            history[f"loss_{name}"] = (i + 1) * np.exp(-steps / 80) + 0.1 * rng.random(300) + 0.05
        history["loss_geometry"] = -0.9 + 0.1 * rng.random(300)
        history["loss_discriminator"] = 1.25 + 0.05 * rng.random(300)
        history["n_anchors"] = rng.integers(40, 80, 300)
        history["grad_norm"] = rng.random(300)
        write_parquet(history, run / "history.parquet")
        training = {
            "steps": 300,
            "seconds": 12.5,
            "device": "cpu",
            "batch_sizes": {"rna": 60, "protein": 60},
            "messages": ["fewer cells than the batch size"],
        }
        write_json(training, run / "metrics.json")
        model = {
            "scmodal_version": "0.1.0",
            "preset": {"name": "default", "steps": 300, "smoothing": 0.8},
            "seed": seed,
            "modalities": ["rna", "protein"],
            "links": [{"feature_a": f"GENE{i}", "feature_b": PROTEINS[i]} for i in range(5)],
            "recipes": {
                name: Recipe(
                    modality=name,
                    blocks=[Block(list(m.var_names), 500.0, False)],
                    mean=np.zeros(m.n_vars, np.float32),
                    std=np.ones(m.n_vars, np.float32),
                    clip=10.0,
                ).to_dict()
                for name, m in modalities.items()
            },
            "versions": {"torch": "2.9.1", "python": "3.11"},
        }
        write_json(model, run / "model" / "model.json")
        runs.append(run)
        numbers: dict[str, Any] = {
            "n_cells": {"rna": n, "protein": n},
            "paired": paired,
            "seed": seed,
            "neighbour_mixing": {"rna|protein": 0.93},
        }
        if labels:
            numbers["label_transfer"] = {
                "rna_to_protein": {"accuracy": 0.8125 + 0.02 * seed, "macro_f1": 0.7, "n_cells": n},
                "protein_to_rna": {"accuracy": 0.7321, "macro_f1": 0.6, "n_cells": n},
            }
        if paired:
            numbers["foscttm"] = {"rna|protein": 0.0987}
            per_feature = {p: 0.9 - 0.1 * i for i, p in enumerate(PROTEINS)}
            numbers["imputation"] = {
                "rna_to_protein": {"pearson_mean": 0.55, "n_features": len(PROTEINS), "per_feature": per_feature}
            }
        write_json(numbers, folder / f"evaluate{seed}.json")
        evaluations.append(folder / f"evaluate{seed}.json")

    counts = modalities["protein"].layers["counts"].toarray()
    wanted = np.log1p(counts * 500 / counts.sum(axis=1, keepdims=True))
    imputed = ad.AnnData(
        (wanted * 0.7 + 0.4 + rng.normal(0, 0.1, (n, len(PROTEINS)))).astype(np.float32),
        obs=pd.DataFrame({"confidence": 0.9}, index=cells["rna"]),
        var=pd.DataFrame(index=PROTEINS),
    )
    write_h5ad(imputed, folder / "pbmc.rna_to_protein.h5ad")
    coverage = pd.DataFrame(
        {
            "modality": "protein",
            "feature": PROTEINS,
            "matched": [True] * 6 + [False] * 2,
            "partner": ["CD3E;CD3D", "CD4", "CD8A", "CD19", "NCAM1", "CD14", "", ""],
            "nearest": [""] * 6 + ["HLA-DRA", "IGHG1;IGHG2"],
            "note": "",
        }
    )
    write_tsv(coverage, folder / "coverage.tsv")
    given = Inputs(
        runs=runs,
        coverage=folder / "coverage.tsv",
        evaluations=evaluations,
        imputed=[folder / "pbmc.rna_to_protein.h5ad"],
        params={"preset": "default", "seeds": seeds},
    )
    if labels:
        said = kinds.copy()
        said[:6] = (said[:6] + 1) % len(TYPES)
        for source, target in (("rna", "protein"), ("protein", "rna")):
            table = pd.DataFrame(
                {
                    "cell": cells[target],
                    "label": np.array(TYPES)[said],
                    "confidence": rng.uniform(0.5, 1, n).round(3),
                    "second_label": "",
                }
            )
            path = folder / f"pbmc.{source}_to_{target}.labels.tsv"
            write_tsv(table, path)
            given.transfers.append(path)
    return given


class Page(HTMLParser):
    """Tags, attributes, texts of a page, and whether its tags close in order."""

    EMPTY = frozenset({"meta", "input", "br", "img", "link"})

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str]]] = []
        self.open: list[str] = []
        self.texts: list[str] = []
        self.feed(text)
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, {k: v or "" for k, v in attrs}))
        if tag not in self.EMPTY:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        if tag in self.EMPTY or not self.open:
            return
        assert self.open[-1] == tag, f"</{tag}> closes <{self.open[-1]}>"
        self.open.pop()

    def handle_data(self, data: str) -> None:
        if self.open and self.open[-1] not in {"script", "style"}:
            self.texts.append(data)

    @property
    def text(self) -> str:
        return re.sub(r"\s+", " ", " ".join(self.texts))

    def all(self, tag: str, **wanted: str) -> list[dict[str, str]]:
        return [a for t, a in self.tags if t == tag and all(a.get(k) == v for k, v in wanted.items())]


def island(text: str, name: str) -> dict[str, Any]:
    found = re.search(rf'<script type="application/json" id="data-{name}">(.*?)</script>', text, re.S)
    assert found, f"no data of {name}"
    return json.loads(found[1])


def unpacked(text: str) -> np.ndarray:
    return np.frombuffer(base64.b64decode(text), dtype="<u2")


@pytest.fixture(scope="module")
def inputs(tmp_path_factory: pytest.TempPathFactory) -> Inputs:
    return make_inputs(tmp_path_factory.mktemp("paired"))


@pytest.fixture(scope="module")
def html(inputs: Inputs, tmp_path_factory: pytest.TempPathFactory) -> str:
    return inputs.build(tmp_path_factory.mktemp("out") / "pbmc.html")


@pytest.fixture
def scratch(tmp_path: Path, inputs: Inputs) -> Callable[[], Inputs]:
    """A copy of the first run that a test may damage."""

    def copy() -> Inputs:
        run = tmp_path / "copy"
        shutil.copytree(inputs.runs[0], run)
        return Inputs(runs=[run])

    return copy


def test_headline_and_key_numbers(html: str) -> None:
    page = Page(html)
    assert "pbmc: RNA + protein, 60 + 60 cells" in page.text
    for number in ("0.81", "0.73", "0.099", "0.55", "0.93"):
        assert f"<b>{number}</b>" in html
    assert {a["data-key"] for a in page.all("div") if "data-key" in a} == {
        "accuracy_rna_to_protein",
        "accuracy_protein_to_rna",
        "foscttm_rna_protein",
        "imputation_rna_to_protein",
        "mixing_rna_protein",
    }
    assert "always the commonest label" in page.text


def test_all_sections_are_there_with_numbered_figures(html: str) -> None:
    page = Page(html)
    keys = ["latent", "labels", "imputation", "links", "training", "messages", "settings", "methods"]
    assert [a["id"] for a in page.all("section")] == ["numbers", *keys]
    assert [a["href"] for a in page.all("a")] == [f"#{k}" for k in keys]
    captions = re.findall(r"<figcaption><p><b>Figure (\d+)\.", html)
    assert [int(c) for c in captions] == list(range(1, len(page.all("figure")) + 1))
    for caption in re.findall(r"<figcaption>(.*?)</figcaption>", html, re.S):
        assert "Good:" in caption
        assert "Bad:" in caption


def test_nothing_is_loaded_from_anywhere(html: str) -> None:
    page = Page(html)
    for tag, attributes in page.tags:
        assert tag not in {"link", "iframe", "object", "embed", "base", "img"}
        assert "src" not in attributes
        assert attributes.get("href", "#").startswith("#")
        assert not any(k.startswith("on") for k in attributes)
    assert "http://" not in html
    assert "https://" not in html
    assert "@import" not in html
    assert "url(" not in html
    policy = page.all("meta", **{"http-equiv": "Content-Security-Policy"})[0]["content"]
    script = re.findall(r"<script>(.*?)</script>", html, re.S)
    assert len(script) == 1
    digest = base64.b64encode(hashlib.sha256(script[0].encode()).digest()).decode()
    assert policy.startswith("default-src 'none'")
    assert f"script-src 'sha256-{digest}'" in policy


def test_names_from_the_data_do_no_harm(html: str) -> None:
    page = Page(html)
    assert html.count("<script") == 3  # two data islands and the page's own
    assert html.count("</script>") == 3
    assert "alert('x')</script>" not in html
    assert not page.all("img")
    assert "<b>bold</b>" not in html
    assert TYPES[2] in page.text
    assert PROTEINS[6] in page.text
    assert TYPES[2] in island(html, "latent")["groups"]["label"]["names"]


def test_latent_data_are_those_of_the_run(html: str) -> None:
    data = island(html, "latent")
    groups = data["groups"]
    assert sorted(data["cells"]) == sorted([f"cell{i}" for i in range(60)] * 2)
    assert groups["modality"]["names"] == ["RNA", "protein"]
    assert np.bincount(unpacked(groups["modality"]["codes"])).tolist() == [60, 60]
    assert len(groups["label"]["names"]) == len(set(groups["label"]["colours"])) == len(TYPES)
    x, y = unpacked(data["series"][0]["x"]), unpacked(data["series"][0]["y"])
    assert x.min() == y.min() == 0
    assert x.max() == y.max() == 65535
    # Islands of the latent are islands of the picture: a cell's nearest cell has its label.
    codes = unpacked(groups["label"]["codes"])
    xy = np.stack([x, y], axis=1).astype(float)
    distance = ((xy[:, None] - xy[None]) ** 2).sum(-1)
    np.fill_diagonal(distance, np.inf)
    assert (codes[distance.argmin(axis=1)] == codes).mean() > 0.9


def test_label_and_modality_panels_share_their_points(html: str) -> None:
    page = Page(html)
    panels = [a for a in page.all("div", **{"class": "scatter"}) if a["data-source"] == "latent"]
    assert [a["data-colour"] for a in panels] == ["modality", "label"]
    buttons = [a for a in page.all("button") if "data-code" in a]
    assert len(buttons) == 2 + len(TYPES)


def test_confusion_matrix(html: str) -> None:
    counts = re.findall(r'title="(.*?) labelled (.*?): (\d+) of (\d+) cells"', html)
    assert len(counts) == 2 * len(TYPES) ** 2
    assert sum(int(c) for _, _, c, _ in counts) == 2 * 60
    assert sum(int(c) for true, said, c, _ in counts if true != said) == 2 * 6
    assert html.count("90.0 % of 60 labelled cells") == 2
    shares = [float(s) for s in re.findall(r"--share:([\d.]+)", html)]
    assert sum(shares) == pytest.approx(2 * len(TYPES), abs=0.05)


def test_wide_confusion_matrices_lie_below_each_other(inputs: Inputs) -> None:
    """Beside each other their last columns, with the numbers of cells, would be cut off."""
    data = read_report_data("pbmc", inputs.runs, None, inputs.evaluations, inputs.transfers, [], None)
    assert 'class="pair"' in labels_section(data).figures[0].body
    for modality in data.modalities:
        modality.obs["cell_type"] = modality.obs["cell_type"].astype(str) + " of a name that takes up half of a page"
    for table in data.transfers.values():
        table["label"] += " of a name that takes up half of a page"
    assert 'class="pair wide"' in labels_section(data).figures[0].body


def test_reliability_and_unknown_cells(inputs: Inputs) -> None:
    data = read_report_data("pbmc", inputs.runs, None, inputs.evaluations, inputs.transfers, [], None)
    table = data.transfers["rna", "protein"]
    right = table["label"].to_numpy() == data.modality("protein").obs["cell_type"].astype(str).to_numpy()
    table["confidence"] = np.where(right, 0.95, 0.15)
    figures = {f.title: f for f in labels_section(data).figures}
    # wrong labels at .15 are never right, right ones at .95 always
    expected = (0.05 * right.sum() + 0.15 * (~right).sum()) / len(right)
    assert f"RNA → protein (calibration error {expected:.3f})" in figures["Reliability of the confidence"].body
    assert "unknown" not in figures["Transferred against true labels"].caption
    before = right[4:].mean()
    table.loc[:3, ["label", "confidence"]] = ["unknown", np.nan]
    caption = {f.title: f for f in labels_section(data).figures}["Transferred against true labels"].caption
    assert f"RNA → protein: {100 * 4 / len(table):.1f} % of {len(table)} cells are called unknown" in caption
    assert f"RNA → protein: {100 * before:.1f} % of {len(table) - 4} labelled cells get their true label" in caption


def test_directions_are_in_the_order_of_the_chain(inputs: Inputs) -> None:
    data = read_report_data("pbmc", inputs.runs, None, [], sorted(inputs.transfers), [], None)
    assert list(data.transfers) == [("rna", "protein"), ("protein", "rna")]


def test_imputation_scatter(html: str, inputs: Inputs) -> None:
    data = island(html, "imputed-rna-protein")
    assert [s["name"] for s in data["series"]] == PROTEINS
    assert data["series"][0]["r"] == 0.9
    first = data["series"][0]
    # Measured values are in the units of the imputed ones: 500 counts a cell, as the model's recipe says.
    counts = mudata.read_h5mu(inputs.runs[0] / "integrated.h5mu").mod["protein"].layers["counts"].toarray()
    measured = np.log1p(counts * 500 / counts.sum(axis=1, keepdims=True))[:, PROTEINS.index("CD3")]
    low, high = first["xr"]
    assert low + unpacked(first["x"]) / 65535 * (high - low) == pytest.approx(measured, abs=1e-3)
    assert np.corrcoef(unpacked(first["x"]), unpacked(first["y"]))[0, 1] > 0.9
    assert "8 features, mean r 0.55" in html
    page = Page(html)
    assert len(page.all("option")) == len(PROTEINS)
    panels = [a for a in page.all("div", **{"class": "scatter"}) if a["data-source"] == "imputed-rna-protein"]
    assert [a["data-series"] for a in panels] == [*"01234567", "0"]


def test_coverage_table(html: str) -> None:
    page = Page(html)
    assert "6 of 8 linked" in page.text
    assert "5 links" in page.text
    assert "CD3E, CD3D" in page.text
    assert "IGHG1, IGHG2" in page.text
    assert "width:75.00%" in html


def test_training_curves(html: str) -> None:
    page = Page(html)
    for title in (
        "gradient norm (log)",
        "discriminator",
        "autoencoder (log)",
        "latent cycle (log)",
        "geometry",
        "total (log)",
        "anchors per batch",
    ):
        assert f"<h4>{title}</h4>" in html
    assert "fully mixed: 2 ln 2" in page.text
    assert "300 steps in 12 s on cpu" in page.text
    assert "none in 0.0 % of the steps" in page.text


def test_no_picture_is_empty(html: str) -> None:
    pictures = re.findall(r'<svg class="chart".*?</svg>', html, re.S)
    assert len(pictures) == 13
    for picture in pictures:
        assert re.search(r'class="(line|bars|dot)"', picture)
        assert "nan" not in picture.lower().replace("nanogram", "")
        assert re.search(r'aria-label="[^"]{10,}"', picture)
    for name in ("latent", "imputed-rna-protein"):
        for series in island(html, name)["series"]:
            assert len(unpacked(series["x"])) == len(island(html, name)["cells"]) > 0


def test_messages_settings_and_methods(html: str) -> None:
    text = Page(html).text
    assert "rna: 3 constant columns dropped <b>bold</b>" in text
    assert "fewer cells than the batch size" in text
    assert re.search(r"smoothing\s+0\.8", text)
    assert re.search(r"torch\s+2\.9\.1", text)
    assert "rna.h5ad" in text
    assert "60 RNA cells and 60 protein cells were integrated" in text
    assert "5 linked feature pairs" in text
    assert "s41467-025-60333-z" in text
    assert 'sc.pp.neighbors(joint, use_rep="X_scmodal")' in text


def test_the_snippet_is_python(html: str) -> None:
    page = Page(html)
    code = next(t for t in page.texts if "import scanpy" in t)
    compile(code, "snippet", "exec")


def test_same_inputs_same_file(inputs: Inputs, html: str, tmp_path: Path) -> None:
    assert inputs.build(tmp_path / "again.html") == html
    other = inputs.build(tmp_path / "later.html", params=inputs.params)
    build_report("pbmc", inputs.runs, output=tmp_path / "x.html", date="2026-02-02")
    assert "2026-02-02" in (tmp_path / "x.html").read_text()
    assert "2025-01-01" in other


def test_several_seeds_give_mean_and_range(tmp_path: Path) -> None:
    html = make_inputs(tmp_path, seeds=3).build(tmp_path / "pbmc.html")
    assert "<b>0.83</b>" in html
    assert "0.81–0.85 over 3 seeds" in html
    assert "seeds 0, 1 and 2" in Page(html).text
    assert len(re.findall(r"<th[^>]*>seed \d</th>", html)) == 3
    autoencoder = re.search(r"<h4>autoencoder.*?</svg>", html, re.S)
    assert autoencoder
    assert autoencoder[0].count('class="line"') == 3


def test_unpaired_and_unlabelled_sections_say_so(tmp_path: Path) -> None:
    given = make_inputs(tmp_path, paired=False, labels=False)
    html = given.build(tmp_path / "pbmc.html")
    text = Page(html).text
    assert "there is no panel by label" in text
    assert "No labels were transferred" in text
    assert "data-imputed" not in html
    assert "Distribution of imputed and measured values" in text
    assert html.count('class="bars"') == 2 * len(PROTEINS)
    assert "FOSCTTM" not in text.split("Shared latent space")[0]


def test_bare_result_leaves_sections_out_without_empty_axes(inputs: Inputs, tmp_path: Path) -> None:
    html = Inputs(runs=inputs.runs).build(tmp_path / "bare.html")
    text = Page(html).text
    assert "discriminator mixing" in text
    assert "No labels were transferred" in text
    assert "No features were imputed" in text
    assert "No coverage table was given" in text
    assert len(re.findall("<figure>", html)) == 2  # latent, training


def test_transferred_labels_colour_cells_without_their_own(tmp_path: Path) -> None:
    given = make_inputs(tmp_path, paired=False)
    mdata = mudata.read_h5mu(given.runs[0] / "integrated.h5mu")
    mdata.mod["protein"].uns["scmodal"]["label_key"] = ""
    write_h5mu(mdata, given.runs[0] / "integrated.h5mu")
    html = given.build(tmp_path / "pbmc.html")
    text = Page(html).text
    assert "protein: labels are those transferred from RNA" in text
    assert "Composition of transferred labels, RNA → protein" in text
    assert "protein → RNA: 90.0 % of 60 labelled cells" in text
    assert "RNA → protein: 90.0 %" not in text
    assert "no label" not in island(html, "latent")["groups"]["label"]["names"]


def test_partly_labelled_cells_are_grey(tmp_path: Path) -> None:
    given = make_inputs(tmp_path)
    mdata = mudata.read_h5mu(given.runs[0] / "integrated.h5mu")
    for modality in mdata.mod.values():
        modality.obs["cell_type"] = modality.obs["cell_type"].astype(object).where(np.arange(60) > 9)
    mdata.update()
    write_h5mu(mdata, given.runs[0] / "integrated.h5mu")
    html = given.build(tmp_path / "pbmc.html")
    group = island(html, "latent")["groups"]["label"]
    assert group["names"][-1] == "no label"
    assert (unpacked(group["codes"]) == len(TYPES)).sum() == 20
    assert "of 50 labelled cells" in html


def test_large_data_are_sampled_and_it_is_said(inputs: Inputs, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("scmodal.report.latent.MAX_CELLS", 50)
    monkeypatch.setattr("scmodal.report.imputation.MAX_CELLS", 20)
    monkeypatch.setattr("scmodal.report.imputation.MAX_FEATURES", 4)
    html = inputs.build(tmp_path / "pbmc.html")
    assert "50 of 120 cells are drawn" in html
    assert len(island(html, "latent")["cells"]) == 50
    shown = island(html, "imputed-rna-protein")
    assert len(shown["cells"]) == 20
    assert len(shown["series"]) == 4
    assert {s["name"] for s in shown["series"]} >= {PROTEINS[0], PROTEINS[-1]}


def test_every_missing_file_is_named_at_once(tmp_path: Path, scratch: Callable[[], Inputs]) -> None:
    given = scratch()
    (given.runs[0] / "history.parquet").unlink()
    with pytest.raises(InputError) as caught:
        build_report(
            "pbmc",
            [*given.runs, tmp_path / "nowhere"],
            evaluations=[tmp_path / "no.json"],
            transfers=[given.runs[0] / "metrics.json"],
            output=tmp_path / "pbmc.html",
        )
    said = "\n".join(caught.value.problems)
    assert "history.parquet: not found" in said
    assert "nowhere" in said
    assert "no.json: not found" in said
    assert "must end in <from>_to_<to>.labels.tsv" in said
    assert not (tmp_path / "pbmc.html").exists()


def wrong_files(inputs: Inputs, folder: Path) -> dict[str, Any]:
    """Arguments with files that are there and named well, and are not what they are given as."""
    imputed, run = inputs.imputed[0], inputs.runs[0]
    shutil.copy(imputed, folder / "x.rna_to_protein.labels.tsv")
    shutil.copy(inputs.coverage or "", folder / "x.protein_to_rna.labels.tsv")
    shutil.copy(inputs.transfers[0], folder / "x.rna_to_protein.h5ad")
    write_json({"verdict": "trusted"}, folder / "selection.json")
    return {
        "coverage": imputed,
        "transfers": [folder / "x.rna_to_protein.labels.tsv", folder / "x.protein_to_rna.labels.tsv"],
        "imputed": [folder / "x.rna_to_protein.h5ad"],
        "evaluations": [run / "metrics.json"],
        "selection": folder / "selection.json",
        "params": inputs.coverage,
    }


def test_files_that_are_something_else_are_named_at_once(inputs: Inputs, tmp_path: Path) -> None:
    given = wrong_files(inputs, tmp_path)
    with pytest.raises(InputError) as caught:
        inputs.build(tmp_path / "pbmc.html", multiqc_dir=tmp_path / "multiqc", **given)
    problems = caught.value.problems
    for start, said in (
        (given["coverage"], "not a text file, let alone a coverage table; give the coverage table that `scmodal link"),
        (given["transfers"][0], "not a text file, let alone a table of transferred labels; give the table that"),
        (given["transfers"][1], "a table of transferred labels needs the columns cell, label, confidence"),
        (given["imputed"][0], "no h5ad file; give the file that `scmodal impute` wrote"),
        (given["evaluations"][0], "no metrics of an evaluation (without any of neighbour_mixing, foscttm,"),
        (given["selection"], "not a selection (reasons is missing); give the selection.json of `scmodal select`"),
        (given["params"], "not a JSON file"),
    ):
        assert any(p.startswith(f"{start}: ") and said in p for p in problems), (said, problems)
    assert len(problems) == 7
    assert not (tmp_path / "pbmc.html").exists()
    assert not (tmp_path / "multiqc").exists()


@pytest.mark.parametrize("text", ["", "\x00\x01", 'a\tb\n"', "modality,feature,matched\n"])
def test_coverage_that_is_no_table(inputs: Inputs, tmp_path: Path, text: str) -> None:
    (tmp_path / "coverage.tsv").write_text(text)
    with pytest.raises(InputError, match=r"coverage\.tsv: .*a coverage table.*scmodal link"):
        inputs.build(tmp_path / "pbmc.html", coverage=tmp_path / "coverage.tsv")


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"verdict": "splendid"}, "verdict: Input should be 'trusted', 'doubtful' or 'failed'"),
        ({"chosen_seed": "none"}, "chosen_seed: "),
        ({"runs": [{"seed": 0, "likeness": None, "pairs": {"rna|protein": {}}}]}, "runs > 0 > pairs > rna|protein > "),
    ],
)
def test_selection_of_another_kind(inputs: Inputs, tmp_path: Path, change: dict[str, Any], said: str) -> None:
    write_json({**selection(1, 0), **change}, tmp_path / "selection.json")
    with pytest.raises(InputError) as caught:
        inputs.build(tmp_path / "pbmc.html", selection=tmp_path / "selection.json")
    assert f"selection.json: not a selection ({said}" in str(caught.value)


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ({}, "without any of neighbour_mixing"),
        ({"foscttm": 0.1}, "foscttm: "),
        ({"label_transfer": {"rna": {"accuracy": 1}}}, "label_transfer > rna"),
        ({"neighbour_mixing": {"rna|protein": "much"}}, "neighbour_mixing > rna|protein: "),
    ],
)
def test_metrics_of_another_kind(inputs: Inputs, tmp_path: Path, content: dict[str, Any], said: str) -> None:
    write_json(content, tmp_path / "metrics.json")
    with pytest.raises(InputError) as caught:
        inputs.build(tmp_path / "pbmc.html", evaluations=[tmp_path / "metrics.json"])
    assert f"metrics.json: no metrics of an evaluation ({said}" in str(caught.value)


def test_scores_that_are_not_finite_are_left_blank(tmp_path: Path) -> None:
    inputs = every_run_has_its_data(make_inputs(tmp_path, seeds=2))
    chosen = selection(2, 0)
    chosen["runs"][1]["pairs"]["rna|protein"]["coherence"] = None
    assert "0.512 – 0.700" in " ".join(Page(inputs.build(tmp_path / "pbmc.html", selection=chosen)).text.split())


@pytest.mark.parametrize(("name", "said"), [("history.parquet", "history of a training"), ("integrated.h5mu", "HDF5")])
def test_damaged_result_is_named(tmp_path: Path, scratch: Callable[[], Inputs], name: str, said: str) -> None:
    given = scratch()
    (given.runs[0] / name).write_text("something else")
    with pytest.raises(InputError, match=rf"{name}: .*{said}"):
        given.build(tmp_path / "pbmc.html")


def test_direction_of_a_foreign_modality_is_refused(tmp_path: Path, scratch: Callable[[], Inputs]) -> None:
    given = scratch()
    foreign = tmp_path / "x.rna_to_atac.labels.tsv"
    foreign.write_text("cell\tlabel\tconfidence\tsecond_label\n")
    with pytest.raises(InputError, match="only the modalities protein, rna"):
        build_report("pbmc", given.runs, transfers=[foreign], output=tmp_path / "pbmc.html")


def test_multiqc_files(inputs: Inputs, tmp_path: Path) -> None:
    inputs.build(tmp_path / "pbmc.html", multiqc_dir=tmp_path / "multiqc")
    found = {p.name: json.loads(p.read_text()) for p in (tmp_path / "multiqc").iterdir()}
    assert set(found) == {f"pbmc_scmodal_{n}_mqc.json" for n in ("general", "history", "links")}
    for content in found.values():
        assert {"id", "section_name", "description", "plot_type", "pconfig", "data"} <= set(content)
    general = found["pbmc_scmodal_general_mqc.json"]
    assert general["plot_type"] == "generalstats"
    assert general["data"]["pbmc"]["accuracy_rna_to_protein"] == 0.8125
    assert general["data"]["pbmc"]["cells_rna"] == 60
    assert general["data"]["pbmc"]["links"] == 5
    # MultiQC keeps one file's columns for all samples, so every file must know all of them.
    assert {k for column in general["pconfig"] for k in column} > set(general["data"]["pbmc"])
    history = found["pbmc_scmodal_history_mqc.json"]
    assert set(history["data"]) == {f"pbmc {t}" for t in ("discriminator", "autoencoder", "latent cycle", "anchors")}
    for points in history["data"].values():
        steps = [step for step, _ in points]
        assert steps == sorted(steps)
        assert all(value > 0 for _, value in points)
    assert found["pbmc_scmodal_links_mqc.json"]["data"] == {"pbmc protein": {"linked": 6, "not_linked": 2}}


def test_size_stays_small_with_many_cells(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("scmodal.report.latent.umap_coordinates", lambda z, seed: z[:, :2])
    given = make_inputs(tmp_path, n=12_000, extra_genes=40)
    html = given.build(tmp_path / "pbmc.html")
    assert "20,000 of 24,000 cells are drawn" in html
    assert len(html.encode()) < 2_000_000


def test_chain_of_three_modalities(tmp_path: Path) -> None:
    given = make_inputs(tmp_path)
    mdata = mudata.read_h5mu(given.runs[0] / "integrated.h5mu")
    three = mudata.MuData({**mdata.mod, "atac": mdata.mod["rna"].copy()})
    three.uns["scmodal"] = {"modalities": ["protein", "rna", "atac"]}
    write_h5mu(three, given.runs[0] / "integrated.h5mu")
    pairs = {"protein|rna": 0.1, "rna|atac": 0.2, "protein|atac": 0.3}
    write_json({"foscttm": pairs, "paired": True}, given.evaluations[0])
    html = given.build(tmp_path / "pbmc.html")
    text = Page(html).text
    assert "protein + RNA + ATAC, 60 + 60 + 60 cells" in text
    assert "FOSCTTM protein – RNA" in text
    assert "FOSCTTM RNA – ATAC" in text
    assert island(html, "latent")["groups"]["modality"]["names"] == ["protein", "RNA", "ATAC"]
    assert "fully mixed: 2 × 2 ln 2" in text
    assert text.count("matched through another modality only") == 1
    # Losses are summed over pairs: with two pairs full mixing is at twice 2 ln 2.
    assert "the discriminator’s loss is 46 % of that of full mixing" in text


def test_three_modalities_of_which_every_two_were_matched(tmp_path: Path) -> None:
    given = make_inputs(tmp_path)
    mdata = mudata.read_h5mu(given.runs[0] / "integrated.h5mu")
    three = mudata.MuData({**mdata.mod, "cytometry": mdata.mod["protein"].copy()})
    three.uns["scmodal"] = {"modalities": ["rna", "protein", "cytometry"]}
    write_h5mu(three, given.runs[0] / "integrated.h5mu")
    path = given.runs[0] / "model" / "model.json"
    model = json.loads(path.read_text())
    model["preset"]["topology"] = "all"
    pairs = [("rna", "protein")] * 7 + [("rna", "cytometry")] * 4 + [("protein", "cytometry")] * 5
    model["links"] = [
        {"feature_a": f"a{i}", "feature_b": f"b{i}", "modality_a": a, "modality_b": b} for i, (a, b) in enumerate(pairs)
    ]
    write_json(model, path)
    # given in the order of their names; read in that of the modalities
    ways = [
        ("cytometry", "protein"),
        ("cytometry", "rna"),
        ("protein", "rna"),
        ("rna", "cytometry"),
        ("rna", "protein"),
    ]
    for a, b in ways:
        write_tsv(
            pd.DataFrame({"cell": three.mod[b].obs_names, "label": TYPES[0], "confidence": 1.0}),
            tmp_path / f"x.{a}_to_{b}.labels.tsv",
        )
    given.transfers = [tmp_path / f"x.{a}_to_{b}.labels.tsv" for a, b in ways]
    text = Page(given.build(tmp_path / "pbmc.html")).text
    assert "topology all" in text
    titles = ("RNA → protein:", "protein → RNA:", "RNA → cytometry:", "cytometry → RNA:", "cytometry → protein:")
    places = [text.index(title) for title in titles]
    assert places == sorted(places)
    assert "of each matched pair (RNA with protein, RNA with cytometry and protein with cytometry)" in text
    assert "matched through another modality only" not in text
    assert "Cytometry values were used on the arcsinh scale" in text
    assert "fully mixed: 3 × 2 ln 2" in text
    assert "the discriminator’s loss is 31 % of that of full mixing" in text
    assert "16 links" in text
    assert "They join RNA with protein (7), RNA with cytometry (4) and protein with cytometry (5)." in text


def selection(seeds: int, chosen: int, verdict: str = "trusted") -> dict[str, Any]:
    """What `scmodal select` says."""
    parts = {"coherence": 0.4, "cycle": 0.6246, "round_trip": 0.7, "predictability": 0.5, "mixing": 0.9}
    scores = {"score": 0.5123, **parts}
    runs = [{"seed": s, "score": 0.5, "likeness": 0.8, "pairs": {"rna|protein": scores}} for s in range(seeds)]
    reasons = ["rna and protein: the data sets mix <in> the latent space", "seeds match cells alike"]
    return {"verdict": verdict, "reasons": reasons, "chosen_seed": chosen, "runs": runs}


def every_run_has_its_data(inputs: Inputs) -> Inputs:
    """The result folders as `integrate` leaves them, each with its integrated.h5mu."""
    for run in inputs.runs[1:]:
        shutil.copy(inputs.runs[0] / "integrated.h5mu", run)
    return inputs


def test_verdict_and_chosen_seed(tmp_path: Path) -> None:
    inputs = every_run_has_its_data(make_inputs(tmp_path, seeds=3))
    html = inputs.build(tmp_path / "pbmc.html", selection=selection(3, 2, "doubtful"))
    text = Page(html).text
    assert 'class="verdict doubtful"' in html
    assert "Doubtful." in text
    assert "RNA and protein: the data sets mix <in> the latent space" in text
    assert "Seed 2 was chosen of 0, 1 and 2" in text
    assert "0.512" in text
    assert "Can it be trusted?" not in inputs.build(tmp_path / "without.html")


def test_cells_without_a_counterpart_are_counted_by_label(tmp_path: Path) -> None:
    inputs = make_inputs(tmp_path)
    path = inputs.runs[0] / "integrated.h5mu"
    assert "without counterpart" not in inputs.build(tmp_path / "before.html", selection=selection(1, 0))
    mdata = mudata.read_h5mu(path)
    rna = mdata["rna"]
    kinds = rna.obs["cell_type"].astype(str).to_numpy()
    rna.obs["scmodal_counterpart_protein"] = np.where(kinds == TYPES[0], 0.4, 1.0).astype(np.float32)
    write_h5mu(mdata, path)
    text = Page(inputs.build(tmp_path / "pbmc.html", selection=selection(1, 0))).text
    cells = int((kinds == TYPES[0]).sum())
    assert f"RNA protein all {len(kinds)} {cells / len(kinds):.1%} RNA protein {TYPES[0]} {cells} 100.0%" in " ".join(
        text.split()
    )
    assert f"RNA protein {TYPES[1]}" not in " ".join(text.split())


def test_what_is_shown_is_of_the_chosen_seed(tmp_path: Path) -> None:
    inputs = every_run_has_its_data(make_inputs(tmp_path, seeds=3))
    data = read_report_data(*("pbmc", inputs.runs, None, inputs.evaluations, [], [], None), selection=selection(3, 2))
    assert [run.seed for run in data.runs] == [2, 0, 1]
    assert [e["seed"] for e in data.evaluations] == [2, 0, 1]
    assert data.modalities[0].file.parent == inputs.runs[2]
    with pytest.raises(InputError, match="chose seed 7"):
        inputs.build(tmp_path / "pbmc.html", selection=selection(3, 7))
    (inputs.runs[2] / "integrated.h5mu").unlink()
    with pytest.raises(InputError, match=r"integrated\.h5mu: not found"):
        inputs.build(tmp_path / "pbmc.html", selection=selection(3, 2))


def test_a_hierarchy_is_compared_at_the_level_of_the_truth(tmp_path: Path) -> None:
    """`TYPES[0]` is a name of both levels: compared with the wrong one, nearly all labels would be wrong."""
    inputs = make_inputs(tmp_path)
    path = inputs.transfers[0]
    table = pd.read_csv(path, sep="\t")
    coarse, sure = table["label"], table["confidence"]
    fine = table.assign(label=[TYPES[0], *(f"{label} 1" for label in coarse[1:])], confidence=0.5)
    write_tsv(fine.assign(label_cell_type=coarse, confidence_cell_type=sure), path)
    data = read_report_data("pbmc", inputs.runs, None, [], [path], [], None)
    ((_, shown),) = data.transfers.items()
    assert shown["label"].tolist() == coarse.tolist()
    np.testing.assert_allclose(shown["confidence"], sure)


def test_labels_of_another_column_are_compared_with_that_column(tmp_path: Path) -> None:
    inputs = make_inputs(tmp_path)
    file = inputs.runs[0] / "integrated.h5mu"
    mdata = mudata.read_h5mu(file)
    for name in mdata.mod:
        mdata[name].obs["fine"] = mdata[name].obs["cell_type"].astype(str) + " 1"
        mdata[name].obs.loc[mdata[name].obs["cell_type"] == TYPES[0], "fine"] = TYPES[1]
    write_h5mu(mdata, file)
    path = inputs.transfers[0]
    table = pd.read_csv(path, sep="\t")
    target = mdata["protein" if "to_protein" in path.name else "rna"]
    write_tsv(table.assign(label=target.obs["fine"].reindex(table["cell"]).to_numpy()), path)
    text = Page(inputs.build(tmp_path / "pbmc.html", transfers=[path])).text
    assert "100.0 % of" in text


def test_runs_of_one_seed_are_told_apart_by_their_folders(tmp_path: Path) -> None:
    inputs = every_run_has_its_data(make_inputs(tmp_path, seeds=2))
    described = json.loads((inputs.runs[0] / "model/model.json").read_text())
    write_json(described | {"seed": 1}, inputs.runs[0] / "model/model.json")
    chosen = selection(2, 1) | {"chosen_run": "run1"}
    chosen["runs"] = [run | {"seed": 1, "run": f"run{n}"} for n, run in enumerate(chosen["runs"])]
    data = read_report_data("pbmc", inputs.runs, None, [], [], [], None, selection=chosen)
    assert data.runs[0].folder == inputs.runs[1]
    text = Page(inputs.build(tmp_path / "pbmc.html", selection=chosen, evaluations=[])).text
    assert "The run run1 was chosen of run0 and run1" in text
    with pytest.raises(InputError, match="not one of them is in a folder called"):
        read_report_data("pbmc", inputs.runs, None, [], [], [], None, selection=chosen | {"chosen_run": "gone"})


def test_metrics_of_another_run_are_refused(tmp_path: Path) -> None:
    inputs = every_run_has_its_data(make_inputs(tmp_path, seeds=2))
    with pytest.raises(InputError, match="the metrics are of seed 0, what is shown is of seed 1"):
        inputs.build(tmp_path / "a.html", selection=selection(2, 1), evaluations=inputs.evaluations[:1])
    # given in another order they are told by their seeds
    data = read_report_data("pbmc", inputs.runs, None, inputs.evaluations[::-1], [], [], None)
    assert [e["seed"] for e in data.evaluations] == [0, 1]
    other = json.loads(Path(inputs.evaluations[0]).read_text()) | {"n_cells": {"rna": 7, "protein": 60}}
    with pytest.raises(InputError, match="metrics of other cells"):
        inputs.build(tmp_path / "a.html", evaluations=[other])
