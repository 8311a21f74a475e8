"""Preparation of RNA, proteins and cytometry, from AnnData and from files."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import scipy.sparse as sp
from anndata import AnnData

from scmodal import cli, io, preprocess
from scmodal.channels import technical_channel
from scmodal.contracts import InputError, check_prepared

NOTHING: list[str] = []  # a user's table that names no feature of these data


def simulated(n: int = 120, p: int = 200, seed: int = 0) -> AnnData:
    """Counts of two groups of cells that differ in the first 20 genes."""
    rng = np.random.default_rng(seed)
    rate = rng.gamma(1.0, 2.0, p) + 0.3
    rates = np.tile(rate, (n, 1))
    rates[: n // 2, :20] *= 6
    counts = rng.poisson(rates).astype(np.float32)
    obs = pd.DataFrame(
        {"label": ["a"] * (n // 2) + ["b"] * (n - n // 2), "batch": [1, 2] * (n // 2)},
        index=[f"c{i}" for i in range(n)],
    )
    return AnnData(sp.csr_matrix(counts), obs=obs, var=pd.DataFrame(index=[f"G{i}" for i in range(p)]))


def said(adata: AnnData) -> str:
    return "\n".join(adata.uns["scmodal"]["messages"])


def test_rna_values(tmp_path: Path) -> None:
    adata = simulated()
    result = preprocess.rna(adata, n_top_genes=50, batch_key="batch", label_key="label", linked=["G3", "other"])
    check_prepared(result, "result")
    counts = adata.X.toarray().astype(np.float64)
    totals = counts.sum(1)
    info = result.uns["scmodal"]
    assert info["target_sum"] == np.median(totals)
    expected = np.log1p(counts / totals[:, None] * np.median(totals))
    np.testing.assert_allclose(result.X.toarray(), expected, rtol=1e-5)
    np.testing.assert_array_equal(result.layers["counts"].toarray(), counts)
    assert result.X.format == result.layers["counts"].format == "csr"
    assert result.X.dtype == result.layers["counts"].dtype == np.float32
    np.testing.assert_allclose(result.var["mean"], expected.mean(0), rtol=1e-5)
    np.testing.assert_allclose(result.var["std"], expected.std(0, ddof=1), rtol=1e-4)
    assert list(result.var_names[result.var["linked"]]) == ["G3"]
    assert list(result.obs["batch"].cat.categories) == ["1", "2"]
    assert (info["n_cells"], info["n_features"], info["n_top_genes"]) == (120, 200, 50)
    assert (info["label_key"], info["batch_key"]) == ("label", "batch")
    io.write_h5ad(result, tmp_path / "r.h5ad")
    back = io.read_prepared(tmp_path / "r.h5ad")
    assert back.uns["scmodal"] == info
    pd.testing.assert_frame_equal(back.var, result.var, check_index_type=False)
    assert "batch" in adata.obs
    assert "scmodal" not in adata.uns  # the input is as it was


@pytest.mark.parametrize("batch_key", [None, "batch"])
def test_ranks_are_those_of_seurat_v3(batch_key: str | None) -> None:
    import scanpy as sc

    adata = simulated()
    result = preprocess.rna(adata, n_top_genes=30, batch_key=batch_key, linked=NOTHING)
    rank = result.var["highly_variable_rank"].dropna().sort_values()
    assert list(rank) == list(range(30))
    assert set(result.var_names[result.var["highly_variable"]]) == set(rank.index)
    reference = simulated()
    sc.pp.highly_variable_genes(reference, flavor="seurat_v3", n_top_genes=30, batch_key=batch_key)
    assert set(reference.var_names[reference.var["highly_variable"]]) == set(rank.index)
    by = ["highly_variable_rank"] + (["highly_variable_nbatches"] if batch_key else [])
    chosen = reference.var[reference.var["highly_variable"]].sort_values(by, ascending=[True, False][: len(by)])
    assert list(chosen["highly_variable_rank"]) == list(reference.var.loc[rank.index, "highly_variable_rank"])
    assert len(set(rank.index[:15]) & {f"G{i}" for i in range(20)}) >= 12  # the genes that do vary


def test_linked_genes_do_not_use_up_the_ranks_of_others() -> None:
    linked = [f"G{i}" for i in range(10)]
    result = preprocess.rna(simulated(), n_top_genes=30, linked=linked)
    assert result.var["highly_variable"].sum() == 30
    ranked = result.var["highly_variable_rank"].notna()
    assert ranked.sum() == 40
    assert (ranked & ~result.var["linked"]).sum() >= 30


def test_fewer_genes_than_asked_for() -> None:
    result = preprocess.rna(simulated(), n_top_genes=3000, linked=NOTHING)
    assert result.var["highly_variable"].all()
    assert result.var["highly_variable_rank"].notna().all()
    assert "all of them" in said(result)


def test_empty_cells_and_constant_columns_go_and_are_named() -> None:
    adata = simulated()
    dense = adata.X.toarray()
    dense[5] = 0
    dense[:, 7] = 0
    adata.X = sp.csr_matrix(dense)
    result = preprocess.rna(adata, linked=NOTHING)
    assert result.shape == (119, 199)
    assert "'c5'" in said(result)
    assert "'G7'" in said(result)
    info = result.uns["scmodal"]
    assert (info["n_cells_in"], info["n_cells"], info["n_features_in"], info["n_features"]) == (120, 119, 200, 199)
    assert (result.var["std"] > 0).all()


def test_a_constant_count_in_every_cell_goes_too() -> None:
    adata = simulated()
    dense = adata.X.toarray()
    dense[:, 7] = 3
    adata.X = sp.csr_matrix(dense)
    assert "G7" not in preprocess.rna(adata, linked=NOTHING).var_names


@pytest.mark.parametrize("n", [2, 5, 12])
@pytest.mark.parametrize("p", [3, 25])
def test_tiny_data_are_ranked_all_the_same(n: int, p: int) -> None:
    result = preprocess.rna(simulated(n if n % 2 == 0 else n + 1, p)[:n].copy(), n_top_genes=10, linked=NOTHING)
    assert result.var["highly_variable"].sum() == min(10, result.n_vars)


def test_tiny_batches_do_not_stop_it() -> None:
    adata = simulated()
    adata.obs["batch"] = ["one", "two", *["big"] * 60, *["other"] * 58]
    result = preprocess.rna(adata, n_top_genes=30, batch_key="batch", linked=NOTHING)
    assert result.var["highly_variable"].sum() == 30
    assert "'one'" in said(result)


def test_nothing_varies() -> None:
    adata = AnnData(np.ones((4, 3), "f4"), var=pd.DataFrame(index=["a", "b", "c"]))
    with pytest.raises(InputError, match="no feature varies"):
        preprocess.protein(adata, linked=NOTHING)
    adata.X[:] = 0
    with pytest.raises(InputError, match="without a single count"):
        preprocess.protein(adata, linked=NOTHING)
    one = AnnData(np.ones((300, 2), "f4"), var=pd.DataFrame(index=["CD3", "CD4"]))
    one.X[:, 1] = np.arange(1, 301)
    for prepare in (preprocess.protein, preprocess.rna):
        with pytest.raises(InputError, match=r"a single feature varies .*'CD4'.*at least two features are needed"):
            prepare(one, linked=NOTHING)
    multiples = AnnData(np.outer(np.arange(1, 5), [1, 2, 3]).astype("f4"))
    with pytest.raises(InputError, match=r"no feature varies .* once each cell's counts are brought to one total"):
        preprocess.protein(multiples, linked=NOTHING)


def test_protein() -> None:
    adata = simulated(60, 12)
    result = preprocess.protein(adata, label_key="label", linked=["G1"])
    check_prepared(result, "result")
    assert result.var["highly_variable"].all()
    assert "highly_variable_rank" not in result.var
    assert result.X.format == "csr"
    assert result.uns["scmodal"]["modality"] == "protein"


def test_built_in_links() -> None:
    adata = simulated(60, 12)
    adata.var_names = ["CD4_TotalSeqB", "CD19", "not-an-antigen-at-all", *[f"x{i}" for i in range(9)]]
    assert list(preprocess.protein(adata).var["linked"][:3]) == [True, True, False]
    adata.var_names = ["CD4", "CD19", "NotAGene", "CD8A", *[f"x{i}" for i in range(8)]]
    assert list(preprocess.rna(adata).var["linked"][:4]) == [True, True, False, True]


def test_keys_that_are_not_there() -> None:
    with pytest.raises(InputError) as exc:
        preprocess.rna(simulated(), label_key="lable", batch_key="donor", linked=NOTHING)
    assert len(exc.value.problems) == 2
    assert "did you mean 'label'" in exc.value.problems[0]
    assert "'batch'" in exc.value.problems[1]
    adata = simulated()
    adata.obs["batch"] = pd.Series(["x"] * 119 + [None], index=adata.obs_names, dtype=object)
    with pytest.raises(InputError, match="1 cells have no value in batch_key"):
        preprocess.rna(adata, batch_key="batch", linked=NOTHING)
    with pytest.raises(InputError, match="at least 1"):
        preprocess.rna(simulated(), n_top_genes=0)


def test_labels_with_gaps_are_counted_and_a_column_of_gaps_is_refused() -> None:
    adata = simulated()
    adata.obs["label"] = pd.Series(["T"] * 117 + [None, "nan", ""], index=adata.obs_names, dtype=object)
    assert "3 cells have no label in 'label'." in preprocess.rna(adata, label_key="label").uns["scmodal"]["messages"]
    adata.obs["label"] = np.nan
    with pytest.raises(InputError, match=r"no cell has a label in label_key 'label'.*there: .*'batch'"):
        preprocess.protein(adata, label_key="label")


def test_sparse_stays_sparse(monkeypatch: pytest.MonkeyPatch) -> None:
    """No dense copy of the matrix is made on the way."""

    def refuse(*args: object, **kwargs: object) -> None:
        raise AssertionError("made dense")

    adata = simulated()
    for kind in (sp.csr_matrix, sp.csc_matrix, sp.csr_array):
        for method in ("toarray", "todense"):
            monkeypatch.setattr(kind, method, refuse)
    preprocess.rna(adata, n_top_genes=20, linked=NOTHING)
    preprocess.protein(adata, linked=NOTHING)


def test_preparing_twice_is_preparing_once() -> None:
    once = preprocess.rna(simulated(), n_top_genes=50, linked=NOTHING)
    twice = preprocess.rna(once, n_top_genes=50, linked=NOTHING)
    np.testing.assert_array_equal(once.X.toarray(), twice.X.toarray())
    assert twice.uns["scmodal"]["counts_from"] == "layers/counts"


# ---------------------------------------------------------------------------------------------------------------------
# cytometry


def cytof(values: np.ndarray, names: list[str]) -> AnnData:
    return AnnData(values.astype("f4"), var=pd.DataFrame(index=names))


CHANNELS = ["Time", "Event_length", "89Y_CD45", "141Pr_CD196", "142Nd_CD19", "191Ir_DNA1", "102Pd_BC1", "140Ce_Bead"]


def test_raw_mass_cytometry() -> None:
    values = np.random.default_rng(0).exponential(100, (50, 8))
    result = preprocess.cytometry(cytof(values, CHANNELS), linked=["CD19"])
    check_prepared(result, "result")
    assert list(result.var_names) == ["CD45", "CD196", "CD19"]
    assert list(result.var["channel_label"]) == ["89Y_CD45", "141Pr_CD196", "142Nd_CD19"]
    np.testing.assert_allclose(result.X, np.arcsinh(values[:, 2:5] / 5), rtol=1e-5)
    assert result.uns["scmodal"]["cofactor"] == 5
    assert list(result.var["linked"]) == [False, False, True]
    assert isinstance(result.X, np.ndarray)
    for word in ("Time", "191Ir_DNA1", "102Pd_BC1", "140Ce_Bead", "arcsinh(x / 5)", "mass cytometry"):
        assert word in said(result)


def test_metal_behind_the_name_and_metals_without_a_marker() -> None:
    values = np.random.default_rng(0).exponential(100, (50, 4))
    adata = cytof(values, ["CD3(In113)Di", "CD4(Nd145)Di", "Er168Di", "Ki67"])
    assert list(preprocess.cytometry(adata, linked=NOTHING).var_names) == ["CD3", "CD4", "Er168Di", "Ki67"]
    adata.var["channel"] = ["In113Di", "Nd145Di", "Er168Di", "Sm152Di"]
    result = preprocess.cytometry(adata, linked=NOTHING)
    assert list(result.var_names) == ["CD3", "CD4", "Ki67"]
    assert "metal without a marker: 'Er168Di'" in said(result)


def test_raw_fluorescence_may_be_negative() -> None:
    values = np.random.default_rng(0).normal(3000, 3000, (50, 5))
    result = preprocess.cytometry(cytof(values, ["FSC-A", "SSC-H", "CD3", "CD4", "Live_Dead"]), linked=NOTHING)
    assert list(result.var_names) == ["CD3", "CD4"]
    np.testing.assert_allclose(result.X, np.arcsinh(values[:, 2:4] / 150), rtol=1e-5)


def test_transformed_values_stay_and_a_cofactor_is_obeyed() -> None:
    values = np.random.default_rng(0).normal(2, 1, (50, 2))
    result = preprocess.cytometry(cytof(values, ["CD3", "CD4"]), linked=NOTHING)
    np.testing.assert_allclose(result.X, values, rtol=1e-5)
    assert result.uns["scmodal"]["cofactor"] == 0
    assert "as they are" in said(result)
    forced = preprocess.cytometry(cytof(values, ["CD3", "CD4"]), cofactor=2, linked=NOTHING)
    np.testing.assert_allclose(forced.X, np.arcsinh(values / 2), rtol=1e-5)
    with pytest.raises(InputError, match="above 0"):
        preprocess.cytometry(cytof(values, ["CD3", "CD4"]), cofactor=0)


def test_cytometry_that_cannot_be() -> None:
    values = np.ones((5, 2))
    values[3, 1] = np.nan
    with pytest.raises(InputError, match=r"NaN.*'3'.*'CD4'"):
        preprocess.cytometry(cytof(values, ["CD3", "CD4"]))
    with pytest.raises(InputError, match="no marker"):
        preprocess.cytometry(cytof(np.ones((5, 2)), ["Time", "FSC-A"]))


@pytest.mark.parametrize(
    "name",
    [
        "CD4", "CD8a", "CD45RA", "B220", "Ki67", "pSTAT5", "HLA-DR", "TCRgd", "CD16", "IgM", "FoxP3", "CD11c",
        "Tbet", "BCL2", "BCL6", "LAG3", "DNAM-1", "DNAM1", "Siglec-8", "TIGIT", "BCMA", "CD45", "IdU", "p53",
        "FcER1", "I-A/I-E", "IgD",
    ],
)  # fmt: skip
def test_markers_are_kept(name: str) -> None:
    assert technical_channel(name, name, True) is None
    assert technical_channel("Nd142Di", f"142Nd_{name}", True) is None


@pytest.mark.parametrize(
    "name",
    [
        "Time", "Event_length", "Event #", "Cell_length", "FSC-A", "SSC-H", "FSC", "DNA1", "191Ir_DNA1",
        "DNA-1", "DNA1(Ir191)Di", "193Ir", "Ir193Di", "(Ir191)Dd", "BC1", "102Pd_BC1", "Barcode1", "Bead",
        "140Ce_EQBeads", "Viability", "195Pt_Viability", "Live/Dead", "190BCKG", "131Xe", "Xe131Di", "Center",
        "Offset", "Width", "Residual", "beadDist", "File_Number",
    ],
)  # fmt: skip
def test_what_is_no_marker_is_known(name: str) -> None:
    assert technical_channel(name, name, True)


# ---------------------------------------------------------------------------------------------------------------------
# files


def test_files_are_joined_on_what_they_share(tmp_path: Path) -> None:
    first, second = simulated(20, 30), simulated(16, 30, 1)[:, 5:].copy()
    first.obs["batch"], second.obs["batch"] = "b1", "b2"
    second.obs["age"], second.obs["dead"] = 3, False
    second.obs_names = ["c0", *[f"d{i}" for i in range(15)]]
    first.write_h5ad(tmp_path / "one.h5ad")
    second.write_h5ad(tmp_path / "two.h5ad")
    paths = [tmp_path / "one.h5ad", tmp_path / "two.h5ad"]
    result = preprocess.preprocess_files(paths, "gex", "label", "batch", linked_features=NOTHING)
    assert result.shape == (36, 25)
    assert list(result.obs_names[[0, 1, 20, 21]]) == ["c0-b1", "c1", "c0-b2", "d0"]
    np.testing.assert_array_equal(
        result.layers["counts"].toarray(), np.vstack([first.X.toarray()[:, 5:], second.X.toarray()])
    )
    assert result.uns["scmodal"]["source"] == ["one.h5ad", "two.h5ad"]
    for word in ("5 of 30 in one.h5ad", "0 of 25 in two.h5ad", "'-<batch>'"):
        assert word in said(result)
    assert list(result.obs["batch"]) == ["b1"] * 20 + ["b2"] * 16
    assert result.obs["age"].isna().tolist() == [True] * 20 + [False] * 16
    assert result.obs["age"].sum() == 3 * 16  # a number still, though one file has none
    io.write_h5ad(result, tmp_path / "out.h5ad")
    assert io.read_prepared(tmp_path / "out.h5ad").shape == (36, 25)


def test_files_that_cannot_be_joined(tmp_path: Path) -> None:
    first, second = simulated(20, 30), simulated(20, 30)
    first.write_h5ad(tmp_path / "one.h5ad")
    second.write_h5ad(tmp_path / "two.h5ad")
    paths = [tmp_path / "one.h5ad", tmp_path / "two.h5ad"]
    with pytest.raises(InputError, match="without batch_key"):
        preprocess.preprocess_files(paths, "rna")
    with pytest.raises(InputError, match="same name and the same 'batch'"):
        preprocess.preprocess_files(paths, "rna", batch_key="batch")
    second.var_names = [f"H{i}" for i in range(30)]
    second.write_h5ad(tmp_path / "two.h5ad")
    with pytest.raises(InputError, match=r"share no feature.*'G0'.*'H0'"):
        preprocess.preprocess_files(paths, "rna", batch_key="batch")


def test_problems_of_all_files_at_once(tmp_path: Path) -> None:
    simulated(20, 30).write_h5ad(tmp_path / "one.h5ad")
    paths = [tmp_path / "one.h5ad", tmp_path / "missing.h5ad"]
    with pytest.raises(InputError) as exc:
        preprocess.preprocess_files(paths, "rna", "kind", "batch")
    assert len(exc.value.problems) == 2
    assert "label_key 'kind'" in exc.value.problems[0]
    assert "missing.h5ad: not found" in exc.value.problems[1]


def test_what_cannot_be_prepared() -> None:
    with pytest.raises(InputError, match="unknown modality 'peeks'"):
        preprocess.preprocess_files(["x"], "peeks")
    with pytest.raises(InputError, match="no input file"):
        preprocess.preprocess_files([], "rna")


def test_table_of_cytometry_without_cell_names(tmp_path: Path) -> None:
    frame = pd.DataFrame(np.random.default_rng(0).exponential(60, (30, 3)), columns=["Time", "CD3", "CD4"])
    frame["donor"] = [1, 2] * 15
    frame["gate"] = "T"
    frame.to_csv(tmp_path / "c.csv", index=False)
    result = preprocess.preprocess_files([tmp_path / "c.csv"], "cytof", "gate", "donor", linked_features=NOTHING)
    assert list(result.var_names) == ["CD3", "CD4"]
    assert result.n_obs == 30
    assert list(result.obs["donor"].cat.categories) == ["1", "2"]
    assert "numbered" in said(result)
    io.write_h5ad(result, tmp_path / "out.h5ad")
    assert io.read_prepared(tmp_path / "out.h5ad").uns["scmodal"]["cofactor"] == 5


def test_published_rna(shared_data: Path) -> None:
    result = preprocess.preprocess_files(
        [shared_data / "cite_pbmc10k" / "rna.h5ad"], "rna", "cell_type_l2", linked_features=["CD4"]
    )
    assert result.var["highly_variable"].sum() == 3000
    top = set(result.var.sort_values("highly_variable_rank").index[:200])
    assert {"LYZ", "S100A8", "S100A9", "IGKC"} <= top  # what varies most in blood


def test_published_mosaic(shared_data: Path) -> None:
    path = shared_data / "hao_pbmc_cite" / "quickstart_pbmc_mosaic.h5mu"
    result = preprocess.preprocess_files([path], "rna", "celltype", "batch", linked_features=NOTHING)
    assert result.n_obs == 1200
    assert result.uns["scmodal"]["batch_key"] == "batch"


def test_a_measured_value_is_no_label() -> None:
    values = np.random.default_rng(0).exponential(100, (120, 4))
    cells = cytof(values, ["CD3", "CD4", "CD8", "CD19"])
    cells.obs["score"] = values[:, 0]
    with pytest.raises(InputError) as error:
        preprocess.cytometry(cells, label_key="score", batch_key="score")
    assert len(error.value.problems) == 2
    assert "label_key 'score' holds 120 different numbers in 120 cells" in str(error.value)
    cells.obs["score"] = np.arange(120) % 7 + 0.5
    assert preprocess.cytometry(cells, label_key="score").uns["scmodal"]["label_key"] == "score"


def test_the_cofactor_from_the_command_line(tmp_path) -> None:
    values = np.random.default_rng(0).exponential(100, (50, 4))
    cytof(values, ["CD3", "CD4", "CD8", "CD19"]).write_h5ad(tmp_path / "raw.h5ad")
    files = ("--input", str(tmp_path / "raw.h5ad"), "--output", str(tmp_path / "out.h5ad"))
    cli.main(["preprocess", "--modality", "cytometry", "--cofactor", "150", *files])
    result = io.read_prepared(tmp_path / "out.h5ad")
    np.testing.assert_allclose(result.X, np.arcsinh(values / 150), rtol=1e-5)
