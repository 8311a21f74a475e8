"""Readers: the files people have, right and wrong. Writers: a whole file or none."""

from __future__ import annotations

import gzip
import itertools
import json
import os
import stat
import subprocess
import sys
from pathlib import Path

import anndata
import h5py
import mudata
import numpy as np
import pandas as pd
import pytest
import scipy.io
import scipy.sparse as sp
from anndata import AnnData

from scmodal import io
from scmodal.contracts import InputError

GENES = ["CD3E", "CD4", "CD8A", "MS4A1", "CD14", "NKG7"]
PROTEINS = ["CD3_TotalSeqB", "CD4_TotalSeqB", "CD19_TotalSeqB"]


def counts(n: int = 8, p: int = 6, seed: int = 0) -> np.ndarray:
    values = np.random.default_rng(seed).poisson(1.5, (n, p)).astype(np.float32)
    values[:, 0] += np.arange(n)  # no empty cell but perhaps the first, no constant column
    values[0, 1] += 1
    return values


def rna_anndata(n: int = 8) -> AnnData:
    adata = AnnData(
        sp.csr_matrix(counts(n)),
        obs=pd.DataFrame({"label": ["a", "b"] * (n // 2)}, index=[f"cell{i}" for i in range(n)]),
        var=pd.DataFrame(index=GENES),
    )
    return adata


def write_10x_h5(path: Path, matrix: np.ndarray, names: list[str], types: list[str], v2: bool = False) -> None:
    """A Cell Ranger file: features x cells by column."""
    csr = sp.csr_matrix(matrix)
    with h5py.File(path, "w") as store:
        group = store.create_group("GRCh38" if v2 else "matrix")
        group["barcodes"] = np.array(
            [f"ACGTACGTACGTAC{'ACGT'[i % 4]}{'ACGT'[i // 4]}-1" for i in range(len(matrix))], "S"
        )
        group["data"] = csr.data.astype("i4")
        group["indices"] = csr.indices.astype("i8")
        group["indptr"] = csr.indptr.astype("i8")
        group["shape"] = np.array([matrix.shape[1], matrix.shape[0]], "i4")
        ids = np.array([f"ENSG{i:011d}" for i in range(len(names))], "S")
        if v2:
            group["genes"], group["gene_names"] = ids, np.array(names, "S")
        else:
            features = group.create_group("features")
            features["id"], features["name"] = ids, np.array(names, "S")
            features["feature_type"] = np.array(types, "S")
            features["genome"] = np.array(["GRCh38"] * len(names), "S")


def write_10x_mtx(
    folder: Path, matrix: np.ndarray, names: list[str], types: list[str] | None, prefix: str = ""
) -> None:
    """A matrix folder: v3 (packed, with feature types) or, without types, v2."""
    folder.mkdir(parents=True)
    ids = [f"ENSG{i:011d}" for i in range(len(names))]
    barcodes = "".join(f"ACGTACGTACGTAC{'ACGT'[i % 4]}{'ACGT'[i // 4]}-1\n" for i in range(len(matrix)))
    if types is None:
        scipy.io.mmwrite(folder / f"{prefix}matrix.mtx", sp.coo_matrix(matrix.T.astype(int)))
        (folder / f"{prefix}genes.tsv").write_text("".join(f"{i}\t{n}\n" for i, n in zip(ids, names)))
        (folder / f"{prefix}barcodes.tsv").write_text(barcodes)
        return
    plain = folder / "plain.mtx"
    scipy.io.mmwrite(plain, sp.coo_matrix(matrix.T.astype(int)))
    with gzip.open(folder / f"{prefix}matrix.mtx.gz", "wb") as packed:
        packed.write(plain.read_bytes())
    plain.unlink()
    with gzip.open(folder / f"{prefix}features.tsv.gz", "wt") as packed:
        packed.write("".join(f"{i}\t{n}\t{t}\n" for i, n, t in zip(ids, names, types)))
    with gzip.open(folder / f"{prefix}barcodes.tsv.gz", "wt") as packed:
        packed.write(barcodes)


BOTH = GENES + PROTEINS
TYPES = ["Gene Expression"] * 6 + ["Antibody Capture"] * 3


def messages(adata: AnnData) -> str:
    return "\n".join(adata.uns["scmodal"]["messages"])


def dense(matrix: object) -> np.ndarray:
    return matrix.toarray() if sp.issparse(matrix) else np.asarray(matrix)


def problem(exc: pytest.ExceptionInfo[InputError]) -> str:
    return str(exc.value)


# ---------------------------------------------------------------------------------------------------------------------
# where counts are


def test_counts_in_x(tmp_path: Path) -> None:
    adata = rna_anndata()
    adata.write_h5ad(tmp_path / "a.h5ad")
    read = io.read_modality(tmp_path / "a.h5ad", "gex")
    assert read.uns["scmodal"]["counts_from"] == "X"
    assert read.uns["scmodal"]["modality"] == "rna"
    assert read.uns["scmodal"]["source"] == ["a.h5ad"]
    assert read.X.format == "csr"
    assert read.X.dtype == np.float32
    np.testing.assert_array_equal(dense(read.layers["counts"]), dense(adata.X))
    assert list(read.obs["label"]) == list(adata.obs["label"])


def test_counts_in_layer_win_over_x() -> None:
    adata = rna_anndata()
    adata.layers["counts"] = adata.X.copy()
    adata.layers["counts"].data += 1
    matrix, where = io.find_counts(adata)
    assert where == "layers/counts"
    assert (matrix != adata.layers["counts"]).nnz == 0


def test_counts_in_x_when_the_layer_is_none() -> None:
    adata = rna_anndata()
    adata.layers["counts"] = adata.X * 0.5
    assert io.find_counts(adata)[1] == "X"


def test_counts_in_raw_bring_all_genes_of_raw(tmp_path: Path) -> None:
    adata = rna_anndata()
    whole = adata.X.toarray()
    adata.raw = adata.copy()
    adata.X = np.log1p(adata.X.toarray())
    small = adata[:, :4].copy()
    small.write_h5ad(tmp_path / "a.h5ad")
    read = io.read_modality(tmp_path / "a.h5ad", "rna")
    assert read.uns["scmodal"]["counts_from"] == "raw"
    assert list(read.var_names) == GENES
    np.testing.assert_array_equal(dense(read.X), whole)
    assert "raw.X" in messages(read)


def both_in_raw(types_in_raw: bool, names: list[str] = BOTH) -> AnnData:
    """RNA and proteins whose counts are in raw alone, normalised in X, with the last two genes left out of var."""
    adata = AnnData(counts(8, 9), var=pd.DataFrame({"feature_types": TYPES}, index=names))
    whole = adata.copy()
    if not types_in_raw:
        del whole.var["feature_types"]
    adata.raw = whole
    adata.X = np.log1p(adata.X)
    return adata[:, [0, 1, 2, 3, 6, 7, 8]].copy()


@pytest.mark.parametrize("types_in_raw", [True, False])
@pytest.mark.parametrize("large", [False, True])
def test_counts_in_raw_are_of_the_wanted_type(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, types_in_raw: bool, large: bool
) -> None:
    both_in_raw(types_in_raw).write_h5ad(tmp_path / "a.h5ad")
    whole = counts(8, 9)
    for modality, wanted, values in (("rna", GENES, whole[:, :6]), ("protein", PROTEINS, whole[:, 6:])):
        if large:
            monkeypatch.setenv(io.MEMORY_VARIABLE, "0")
            checked = io.open_counts(tmp_path / "a.h5ad", modality)
            assert checked is not None
            assert list(checked.var.index) == wanted
            assert checked.columns is not None
            np.testing.assert_array_equal(checked.matrix[:][:, checked.columns], values)
            continue
        read = io.read_modality(tmp_path / "a.h5ad", modality)
        assert read.uns["scmodal"]["counts_from"] == "raw"
        assert list(read.var_names) == wanted
        np.testing.assert_array_equal(dense(read.X), values)
        if types_in_raw:
            assert f"{len(wanted)} of 9 features" in messages(read)
        else:
            assert f"2 others of raw are not in var, which has the types: {2 if modality == 'rna' else 0}" in messages(
                read
            )


@pytest.mark.filterwarnings("ignore:Variable names are not unique")
@pytest.mark.parametrize("types_in_raw", [True, False])
def test_a_gene_and_its_protein_of_one_name_in_raw(types_in_raw: bool) -> None:
    adata = both_in_raw(types_in_raw, [*GENES, "CD4", "CD8A", "CD19"])
    assert list(io.from_anndata(adata, "protein").var_names) == ["CD4", "CD8A", "CD19"]
    assert list(io.from_anndata(adata, "rna").var_names) == GENES


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda x: np.log1p(x), ["X already normalised", "no counts anywhere", "layers['counts']", "cell0"]),
        (lambda x: (x - x.mean(0)) / x.std(0), ["X already scaled", "no counts anywhere"]),
        (lambda x: np.where(np.arange(x.size).reshape(x.shape) == 9, np.nan, x), ["NaN", "'cell1'", "'MS4A1'"]),
        (lambda x: np.where(np.arange(x.size).reshape(x.shape) == 9, np.inf, x), ["infinite", "'cell1'", "'MS4A1'"]),
        (lambda x: np.where(np.arange(x.size).reshape(x.shape) == 9, -2, x), ["negative", "'cell1'", "'MS4A1'"]),
    ],
)
@pytest.mark.parametrize("form", [np.asarray, sp.csr_matrix, sp.csc_matrix])
def test_values_that_are_no_counts(tmp_path: Path, change, words, form) -> None:
    adata = rna_anndata()
    adata.X = form(change(counts()).astype(np.float32))
    adata.write_h5ad(tmp_path / "bad.h5ad")
    with pytest.raises(InputError) as exc:
        io.read_modality(tmp_path / "bad.h5ad", "rna")
    for word in [*words, "bad.h5ad"]:
        assert word in problem(exc)


@pytest.mark.parametrize("form", [np.asarray, sp.csr_matrix, sp.csc_matrix])
@pytest.mark.parametrize("large", [False, True])
def test_corrected_counts_are_told_from_normalised_ones(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, form, large: bool
) -> None:
    whole = counts(8, 6)
    corrected = 10 * whole * np.random.default_rng(1).uniform(0.8, 1, whole.shape)
    normalised = whole / whole.sum(1, keepdims=True) * 1e4
    if large and form is sp.csc_matrix:
        pytest.skip("refused for its layout")
    if large:
        monkeypatch.setenv(io.MEMORY_VARIABLE, "0")
    for i, (values, said, unsaid) in enumerate(
        [
            (corrected, "look like corrected or estimated counts", "already normalised"),
            (normalised, "X already normalised", "look like corrected"),
            (normalised[:, :5], "X already normalised", "look like corrected"),
            (np.log1p(normalised), "X already normalised", "look like corrected"),
        ]
    ):
        adata = rna_anndata()[:, : values.shape[1]].copy()
        adata.X = form(values.astype(np.float32))
        path = tmp_path / f"{i}.h5ad"
        adata.write_h5ad(path)
        with pytest.raises(InputError) as exc:
            (io.open_counts if large else io.read_modality)(path, "rna")
        assert said in problem(exc)
        assert unsaid not in problem(exc)


def test_corrected_counts_in_the_layer() -> None:
    adata = rna_anndata()
    adata.layers["counts"] = sp.csr_matrix(counts() * 10 * np.random.default_rng(1).uniform(0.8, 1, (8, 6)))
    adata.X = np.log1p(adata.X.toarray())
    with pytest.raises(InputError, match=r"values of layers/counts look like corrected.*Round them"):
        io.find_counts(adata)


@pytest.mark.parametrize("large", [False, True])
def test_counts_in_another_layer_are_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, large: bool) -> None:
    adata = rna_anndata()
    adata.layers["scaled"] = adata.X.toarray() - 0.5
    adata.layers["raw_counts"] = adata.X.tocsc()
    adata.X = sp.csr_matrix(np.log1p(adata.X.toarray()))
    if large:
        monkeypatch.setenv(io.MEMORY_VARIABLE, "0")
    for i, mend in enumerate(["adata.layers['counts'] = adata.layers['raw_counts']", "there: 'scaled'"]):
        adata.write_h5ad(tmp_path / f"{i}.h5ad")
        with pytest.raises(InputError) as exc:
            (io.open_counts if large else io.read_modality)(tmp_path / f"{i}.h5ad", "rna")
        assert mend in problem(exc)
        adata.layers.pop("raw_counts", None)


def test_input_is_not_changed() -> None:
    adata = rna_anndata()
    adata.X = adata.X.astype(np.float64)
    adata.X.data[0] = 0  # a stored zero
    before = adata.X.copy()
    io.from_anndata(adata, "rna")
    assert adata.X.nnz == before.nnz
    assert adata.X.dtype == np.float64


# ---------------------------------------------------------------------------------------------------------------------
# names


def test_duplicates_name_the_first_few_and_the_mend() -> None:
    adata = rna_anndata()
    adata.var_names = ["CD4", "CD4", *GENES[2:]]
    adata.obs_names = ["x", "x", *adata.obs_names[2:]]
    with pytest.raises(InputError) as exc:
        io.from_anndata(adata, "rna", "f.h5ad")
    assert len(exc.value.problems) == 2
    assert "'x'" in exc.value.problems[0]
    assert "obs_names_make_unique" in exc.value.problems[0]
    assert "'CD4'" in exc.value.problems[1]


def test_ensembl_ids_give_way_to_symbols() -> None:
    adata = rna_anndata()
    adata.var["feature_name"] = pd.Categorical(["CD3E", "CD4", "CD4", None, "CD14", "NKG7"])
    adata.var_names = [f"ENSG{i:011d}.{i}" for i in range(6)]
    read = io.from_anndata(adata, "rna")
    assert list(read.var_names) == ["CD3E", "CD4", "CD4-1", "ENSG00000000003.3", "CD14", "NKG7"]
    assert read.var["gene_id"].iloc[0] == "ENSG00000000000.0"
    assert "feature_name" in messages(read)
    assert "1 without a symbol" in messages(read)


@pytest.mark.parametrize(
    "column",
    ["symbol", "SYMBOL", "gene_short_name", "gene_names", "hgnc_symbol", "gene", "external_gene_name", "Gene Symbol"],
)
def test_columns_of_symbols(column: str) -> None:
    adata = rna_anndata()
    adata.var_names = [f"ENSG{i:011d}" for i in range(6)]
    adata.var["gene_name"] = adata.var_names  # holds no symbols
    adata.var[column] = GENES
    read = io.from_anndata(adata, "rna")
    assert list(read.var_names) == GENES
    assert column in messages(read)


@pytest.mark.parametrize(
    ("names", "expected"),
    [
        ([f"GRCh38_{g}" for g in GENES], GENES),
        ([f"hg38-{g}" for g in GENES], GENES),
        ([*(f"HUMAN_{g}" for g in GENES[:4]), "MOUSE_Cd14", "MOUSE_Cd14"], [*GENES[:4], "Cd14", "Cd14-1"]),
        ([f"mm10___{g.title()}" for g in GENES], [g.title() for g in GENES]),
        ([f"{g}_ENSG{i:011d}" for i, g in enumerate(GENES)], GENES),
        ([f"{g}-ENSG{i:011d}.12" for i, g in enumerate(GENES)], GENES),
        ([f"GRCh38_ENSG{i:011d}_{g}" for i, g in enumerate(["HLA-A", "HLA-A", *GENES[2:]])],
         ["HLA-A", "HLA-A-1", *GENES[2:]]),
        ([f"GRCh38_{g}" for g in GENES[:3]] + GENES[3:], None),
        ([f"{g}_ENSG{i:011d}" for i, g in enumerate(GENES[:3])] + GENES[3:], None),
    ],
)  # fmt: skip
def test_names_that_hold_more_than_the_symbol(names: list[str], expected: list[str] | None) -> None:
    adata = rna_anndata()
    adata.var_names = names
    read = io.from_anndata(adata, "rna")
    assert list(read.var_names) == (names if expected is None else expected)
    assert ("of 6 feature names" in messages(read)) == (expected is not None)
    if "_ENSG" in names[0]:
        assert ("gene_id" in read.var) == (expected is not None)


def test_genome_before_the_symbol_in_var() -> None:
    adata = rna_anndata()
    adata.var["name"] = [f"GRCh38_{g}" for g in GENES]
    adata.var_names = [f"GRCh38_ENSG{i:011d}" for i in range(6)]
    read = io.from_anndata(adata, "rna")
    assert list(read.var_names) == GENES
    assert read.var["gene_id"].iloc[1] == "ENSG00000000001"


@pytest.mark.parametrize("modality", ["rna", "protein"])
def test_peaks_are_no_genes_and_no_proteins(modality: str) -> None:
    adata = rna_anndata()
    adata.var_names = [f"chr1:{i}00-{i}99" for i in range(1, 7)]
    with pytest.raises(InputError, match=f"genomic intervals.*for modality '{modality}'"):
        io.from_anndata(adata, modality)
    assert io.from_anndata(adata, "atac").n_vars == 6


def test_ensembl_ids_without_symbols_are_said() -> None:
    adata = rna_anndata()
    adata.var_names = [f"ENSMUSG{i:011d}" for i in range(6)]
    assert "no gene symbols" in messages(io.from_anndata(adata, "rna"))


# ---------------------------------------------------------------------------------------------------------------------
# formats


@pytest.mark.parametrize("v2", [False, True])
def test_10x_h5_splits_by_itself(tmp_path: Path, v2: bool) -> None:
    matrix = counts(8, 6 if v2 else 9)
    names = ["CD4", *GENES[1:]] + ([] if v2 else PROTEINS)
    write_10x_h5(tmp_path / "f.h5", matrix, names, TYPES, v2)
    rna = io.read_modality(tmp_path / "f.h5", "rna")
    assert list(rna.var_names) == ["CD4", "CD4-1", *GENES[2:]]
    assert "more than once" in messages(rna)
    np.testing.assert_array_equal(dense(rna.X), matrix[:, :6])
    assert rna.obs_names[0] == "ACGTACGTACGTACAA-1"
    if v2:
        with pytest.raises(InputError, match="Antibody Capture"):
            io.read_modality(tmp_path / "f.h5", "protein")
    else:
        protein = io.read_modality(tmp_path / "f.h5", "adt")
        assert list(protein.var_names) == PROTEINS
        np.testing.assert_array_equal(dense(protein.X), matrix[:, 6:])
        assert "3 of 9 features" in messages(protein)


@pytest.mark.parametrize(
    ("types", "prefix", "inner"), [(TYPES, "", ""), (TYPES, "GSM1_", "filtered_feature_bc_matrix"), (None, "", "")]
)
def test_10x_folder(tmp_path: Path, types: list[str] | None, prefix: str, inner: str) -> None:
    names = BOTH if types else GENES
    matrix = counts(8, len(names))
    write_10x_mtx(tmp_path / "out" / inner, matrix, names, types, prefix)
    rna = io.read_modality(tmp_path / "out", "rna")
    np.testing.assert_array_equal(dense(rna.X), matrix[:, :6])
    assert list(rna.var_names) == GENES
    if types:
        protein = io.read_modality(tmp_path / "out", "protein")
        np.testing.assert_array_equal(dense(protein.X), matrix[:, 6:])
    contents = io.probe(tmp_path / "out", "rna")
    assert (contents.n_cells, contents.n_features) == (8, 6)


def untyped_folder(folder: Path, lines: list[str], names: tuple[str, ...]) -> np.ndarray:
    """A matrix folder whose features have one or two columns."""
    folder.mkdir(parents=True)
    matrix = counts(8, len(lines))
    for name in names:
        with gzip.open(folder / name, "wb") if name.endswith(".gz") else (folder / name).open("wb") as handle:
            if "matrix" in name:
                scipy.io.mmwrite(handle, sp.coo_matrix(matrix.T.astype(int)))
            else:
                rows = [f"ACGTACGTACGT{a}{b}" for a in "AC" for b in "ACGT"] if "barcodes" in name else lines
                handle.write("".join(f"{row}\n" for row in rows).encode())
    return matrix


PACKED = ("matrix.mtx.gz", "features.tsv.gz", "barcodes.tsv.gz")
PLAIN = ("matrix.mtx", "genes.tsv", "barcodes.tsv")


@pytest.mark.parametrize(
    ("lines", "names"),
    [
        (["CD3-CTCATTGTAACTCCT", "CD4-TGTTCCCGCTCAACT", "CD19-CTGGGCAATTACTCG", "unmapped"], PACKED),  # CITE-seq-Count
        (["CD3\tCD3", "CD4\tCD4", "CD19\tCD19"], PLAIN),  # DropletUtils
    ],
)
def test_folder_without_feature_types_is_of_the_modality_asked_for(
    tmp_path: Path, lines: list[str], names: tuple[str, ...]
) -> None:
    matrix = untyped_folder(tmp_path / "umi_count", lines, names)
    read = io.read_modality(tmp_path / "umi_count", "protein")
    assert list(read.var_names) == [line.split("\t")[0] for line in lines[:3]]
    np.testing.assert_array_equal(dense(read.X), matrix[:, :3])
    assert "taken as 'Antibody Capture'" in messages(read)
    assert ("'unmapped' (reads of no known tag) was left out" in messages(read)) == (len(lines) == 4)
    assert io.probe(tmp_path / "umi_count", "protein").n_features == 3
    assert io.check_file(tmp_path / "umi_count", "protein") == []
    assert io.read_modality(tmp_path / "umi_count", "rna").n_vars == 3


def test_folder_of_genes_without_feature_types_is_no_protein(tmp_path: Path) -> None:
    untyped_folder(tmp_path / "out", [f"ENSG{i:011d}\t{g}" for i, g in enumerate(GENES)], PLAIN)
    for look in (io.probe, io.read_modality):
        with pytest.raises(InputError, match=r"no 'Antibody Capture' features.*'Gene Expression'"):
            look(tmp_path / "out", "protein")


def test_10x_h5_without_feature_types(tmp_path: Path) -> None:
    write_10x_h5(tmp_path / "f.h5", counts(8, 3), PROTEINS, TYPES[6:])
    with h5py.File(tmp_path / "f.h5", "a") as store:
        del store["matrix/features/feature_type"]
        store["matrix/features/id"][:] = np.array(["CD3", "CD4", "CD19"], "S")
    assert list(io.read_modality(tmp_path / "f.h5", "protein").var_names) == PROTEINS
    assert io.probe(tmp_path / "f.h5", "protein").n_features == 3


def test_10x_folder_with_a_file_missing(tmp_path: Path) -> None:
    write_10x_mtx(tmp_path / "out", counts(), GENES, None)
    (tmp_path / "out" / "genes.tsv").unlink()
    for look in (io.probe, io.read_modality):
        with pytest.raises(InputError, match=r"features\.tsv\[\.gz\] or genes\.tsv\[\.gz\] or .* is missing"):
            look(tmp_path / "out", "rna")
    (tmp_path / "empty").mkdir()
    with pytest.raises(InputError, match=r"without a matrix\.mtx"):
        io.read_modality(tmp_path / "empty", "rna")


def test_10x_folder_of_files_that_do_not_belong_together(tmp_path: Path) -> None:
    write_10x_mtx(tmp_path / "out", counts(), GENES, None)
    (tmp_path / "out" / "genes.tsv").write_text("ENSG1\tCD4\n")
    with pytest.raises(InputError, match="do not belong together"):
        io.read_modality(tmp_path / "out", "rna")


def test_h5ad_with_feature_types_is_split() -> None:
    adata = AnnData(counts(8, 9), var=pd.DataFrame({"feature_types": TYPES}, index=BOTH))
    assert list(io.from_anndata(adata, "rna").var_names) == GENES
    assert list(io.from_anndata(adata, "protein").var_names) == PROTEINS
    with pytest.raises(InputError, match="Peaks"):
        io.from_anndata(adata, "atac")


def two_modalities(path: Path) -> mudata.MuData:
    rna = rna_anndata()
    adt = AnnData(sp.csr_matrix(counts(6, 3, 1)), obs=pd.DataFrame(index=[f"cell{i}" for i in range(2, 8)]))
    adt.var_names = PROTEINS
    with io.mudata_options():
        mdata = mudata.MuData({"gex": rna, "adt": adt})
        mdata.obs["donor"] = [f"d{i % 3}" for i in range(8)]
        mdata.write(path)
    return mdata


def test_h5mu_by_alias_and_with_shared_annotation(tmp_path: Path) -> None:
    mdata = two_modalities(tmp_path / "m.h5mu")
    adt = io.read_modality(tmp_path / "m.h5mu", "protein")
    assert adt.shape == (6, 3)
    assert list(adt.obs["donor"]) == list(mdata.obs.loc[adt.obs_names, "donor"])
    assert io.read_modality(tmp_path / "m.h5mu", "rna").shape == (8, 6)
    assert "donor" in io.probe(tmp_path / "m.h5mu", "protein").obs_columns


def test_h5mu_without_the_modality_lists_what_is_there(tmp_path: Path) -> None:
    two_modalities(tmp_path / "m.h5mu")
    for look in (io.probe, io.read_modality):
        with pytest.raises(InputError, match=r"no modality 'cytometry'.*'adt', 'gex'"):
            look(tmp_path / "m.h5mu", "cytof")


@pytest.mark.parametrize(
    ("name", "sep"), [("t.csv", ","), ("t.tsv", "\t"), ("t.csv.gz", ","), ("t.txt.gz", "\t"), ("odd.csv", ";")]
)
def test_table(tmp_path: Path, name: str, sep: str) -> None:
    adata = rna_anndata()
    frame = pd.DataFrame(adata.X.toarray(), index=adata.obs_names, columns=GENES)
    frame["label"] = adata.obs["label"]
    frame["batch"] = 7
    frame.to_csv(tmp_path / name, sep=sep)
    read = io.read_modality(tmp_path / name, "rna", obs_columns=["batch"])
    np.testing.assert_array_equal(dense(read.X), dense(adata.X))
    assert list(read.obs.columns) == ["label", "batch"]
    assert list(read.obs_names) == list(adata.obs_names)
    assert "cells in rows" in messages(read)


def test_table_as_r_writes_it(tmp_path: Path) -> None:
    (tmp_path / "r.csv").write_text('"CD4","CD8A"\n"a",1,2\n"b",3,0\n')
    read = io.read_modality(tmp_path / "r.csv", "rna")
    assert list(read.obs_names) == ["a", "b"]
    np.testing.assert_array_equal(dense(read.X), [[1, 2], [3, 0]])


def test_table_in_pieces_gives_the_same(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    frame = pd.DataFrame(counts(50), columns=GENES, index=[f"c{i}" for i in range(50)])
    frame.to_csv(tmp_path / "t.csv")
    monkeypatch.setattr("scmodal.io.tables.CHUNK", 70)  # ten rows a piece
    read = io.read_modality(tmp_path / "t.csv", "rna")
    np.testing.assert_array_equal(dense(read.X), frame.to_numpy())
    assert list(read.obs_names) == list(frame.index)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("cell,CD4,CD4\na,1,2\n", ["duplicated feature names", "'CD4'"]),
        ("cell,CD4,CD8\na,1,2\na,1,2\n", ["duplicated cell names", "'a'"]),
        ("cell,CD4,CD8\na,1,2\nb,x,2\nc,2,2\n", ["'x' in column 'CD4', data row 2"]),
        ("cell,CD4,CD8\na,1,\nb,1,2\n", ["NaN", "remove the column 'CD8'"]),
        (",a,b\nCD4,1,\nCD8,1,2\nCD19,1,0\n", ["NaN", "cell 'b'", "remove the row 'CD4'"]),
        ("cell;CD4;CD8\na;0,5;1\nb;1,25;2\n", ["decimal commas", "'0,5' in column 'CD4'", "decimal points"]),
        ("cell\tCD4\tCD8\na\t1,000\t1\nb\t1,250,000\t2\n", ["decimal commas", "marks between thousands"]),
        ("cell,CD4,CD8,CD19,percent\na,1,0,2,0.5\nb,2,2,0,1.5\n", ["in 1 of 4 columns ('percent')", "no features"]),
        ("cell,CD4,CD8\na,0.69,0\nb,1.1,0.69\n", ["fractional", "in 2 of 2 columns", "already normalised"]),
        ("cell,CD4,CD8\na,1,-2\nb,1,2\n", ["negative", "'CD8'", "raw counts"]),
        ("cell,CD4,CD8,CD19\na,21.3,2.5,7.4\nb,18.2,1.1,3.7\n", ["corrected or estimated counts", "round them"]),
        ("cell,CD4,cell\na,1,2\n", ["duplicated feature names", "'cell'"]),
        ("cell,CD4,CD8\n", ["no cells"]),
        ("justone\nvalue\n", ["neither commas nor tabs"]),
        ("cell,CD4,\na,1,2\n", ["column 3 has no name"]),
    ],
)
def test_bad_tables(tmp_path: Path, text: str, words: list[str]) -> None:
    (tmp_path / "t.csv").write_text(text)
    with pytest.raises(InputError) as exc:
        io.read_modality(tmp_path / "t.csv", "rna")
    for word in [*words, "t.csv"]:
        assert word in problem(exc)
    assert "layers" not in problem(exc)


@pytest.mark.parametrize(
    ("text", "cells"),
    [
        (",AAACCTGAGAAACCAT-1,AAACCTGAGAAACCTA-1\nCD4,1,2\nCD8A,0,1\n", ["AAACCTGAGAAACCAT-1", "AAACCTGAGAAACCTA-1"]),
        (",cell1,cell2\nCD4,1,2\nCD8A,0,1\nMS4A1,3,0\n", ["cell1", "cell2"]),
        ("gene,s1,s2\nENSG00000010610,1,2\nENSG00000153563,0,1\nENSG00000156738,3,0\n", ["s1", "s2"]),
    ],
)
def test_table_with_features_in_rows_is_turned(tmp_path: Path, text: str, cells: list[str]) -> None:
    (tmp_path / "t.csv").write_text(text)
    read = io.read_modality(tmp_path / "t.csv", "rna")
    assert list(read.obs_names) == cells
    np.testing.assert_array_equal(dense(read.X)[:, :2], [[1, 0], [2, 1]])
    assert any("features in rows and cells in columns: 2 cells" in m for m in read.uns["scmodal"]["messages"])


def test_table_of_unknown_names_is_not_turned(tmp_path: Path) -> None:
    (tmp_path / "t.csv").write_text(",ab1,ab2\nCD4+ cell,1,2\nb,0,1\nc,3,1\n")
    read = io.read_modality(tmp_path / "t.csv", "protein")
    assert list(read.var_names) == ["ab1", "ab2"]


PANEL = ["CD3", "CD4", "CD8a", "CD14", "CD15", "CD16", "CD19", "CD25", "CD45RA", "PD-1", "TIGIT", "IgG1", "IgG2a"]
SOME_GENES = [*GENES, *(f"Z{a}Q{b}{i}" for i, (a, b) in enumerate(itertools.product("GHJKLMNPRS", repeat=2)))]


@pytest.mark.parametrize(
    "cells",
    [
        [f"V{i}" for i in range(300)],  # V28 is CX3CR1
        [f"c{i}" for i in range(300)],  # C33 is CD82
        [f"{row}{column}" for row in "ABCDEFGH" for column in range(1, 13)],  # F3, D6 and H2
        [f"{plate}_{row}{column}" for plate in ("p1", "p2") for row in "ABCDEFGH" for column in range(1, 13)],
        [f"{kind}_{i}" for kind in ("CD4", "CD8", "B", "NK") for i in range(50)],
        [f"CD4_{i}" for i in range(50)],
    ],
)
@pytest.mark.parametrize("features", [PANEL, SOME_GENES])
@pytest.mark.parametrize("sep", [",", "\t"])
def test_cells_that_are_named_like_antigens(tmp_path: Path, cells: list[str], features: list[str], sep: str) -> None:
    values = np.random.default_rng(0).poisson(2, (len(cells), len(features))) + 1
    frame = pd.DataFrame(values, index=cells, columns=features)
    for turned, table in (("across", frame), ("down", frame.T)):
        table.to_csv(tmp_path / f"{turned}.csv", sep=sep)
        read = io.read_modality(tmp_path / f"{turned}.csv", "protein")
        assert list(read.obs_names) == cells
        assert list(read.var_names) == features
        np.testing.assert_array_equal(dense(read.X), values)


@pytest.mark.parametrize("kinds", [["CD4 T", "CD8 T", "CD14 Mono", "CD16 Mono", "CD19 B", "CD56 NK"]])
def test_sorted_cells_are_no_features(tmp_path: Path, kinds: list[str]) -> None:
    features = [*SOME_GENES, "CD19", "FCGR3A", "CX3CR1"]
    frame = pd.DataFrame(np.arange(len(kinds) * len(features)).reshape(len(kinds), -1), index=kinds, columns=features)
    frame.to_csv(tmp_path / "t.csv")
    assert list(io.read_modality(tmp_path / "t.csv", "rna").obs_names) == kinds


@pytest.mark.parametrize("head", ["", "cell", "names"])
def test_cell_names_stay_as_they_stand(tmp_path: Path, head: str) -> None:
    cells = ["0000", "0001", "NA", "None", "nan", "1e5", "1.0", "12345678901234567890"]
    if head == "names":
        cells = cells[:2]  # without a word for it, numbers with zeros in front are still names
    values = counts(len(cells), 6)
    for table, name in ((pd.DataFrame(values, cells, GENES), "t.csv"), (pd.DataFrame(values.T, GENES, cells), "f.csv")):
        table.to_csv(tmp_path / name, index_label=head)
        read = io.read_modality(tmp_path / name, "rna")
        assert list(read.obs_names) == cells
        np.testing.assert_array_equal(dense(read.X), values)


def test_first_column_that_is_a_measurement(tmp_path: Path) -> None:
    (tmp_path / "t.csv").write_text("CD3,CD4,CD19\n1,2,0\n1,5,1\n4,0,2\n")
    read = io.read_modality(tmp_path / "t.csv", "protein")
    assert list(read.var_names) == ["CD3", "CD4", "CD19"]
    np.testing.assert_array_equal(dense(read.X), [[1, 2, 0], [1, 5, 1], [4, 0, 2]])
    (tmp_path / "u.csv").write_text("CD3,CD4\n0.5,1.5\n2.5,NA\nNA,1\n")
    with pytest.raises(InputError, match=r"missing.*'cell2', feature 'CD4'"):
        io.read_modality(tmp_path / "u.csv", "cytometry")


def test_table_that_turns_latin_1_far_down(tmp_path: Path) -> None:
    lines = ["cell;CD3;CD4;kind", *(f"c{i};{i};1;naive" for i in range(2000)), "c;1;2;na\xefve"]
    (tmp_path / "t.csv").write_bytes("\n".join(lines).encode("latin-1"))
    with pytest.raises(InputError, match=r"t\.csv: not a text table in UTF-8.*save it as .csv or .tsv in UTF-8"):
        io.read_modality(tmp_path / "t.csv", "protein")


def write_fcs(path: Path, values: np.ndarray, channels: list[str], markers: list[str], cyt: str = "") -> None:
    import flowio

    with path.open("wb") as handle:
        flowio.create_fcs(
            handle, values.astype(np.float32).ravel().tolist(), channels, markers, {"cyt": cyt} if cyt else None
        )


def test_fcs(tmp_path: Path) -> None:
    values = np.abs(np.random.default_rng(0).normal(50, 20, (10, 4)))
    write_fcs(
        tmp_path / "c.fcs", values, ["Time", "Nd142Di", "Sm147Di", "Er168Di"], ["", "142Nd_CD19", "CD4", ""], "CyTOF"
    )
    read = io.read_modality(tmp_path / "c.fcs", "cytof")
    assert list(read.var_names) == ["Time", "142Nd_CD19", "CD4", "Er168Di"]
    assert list(read.var["channel"]) == ["Time", "Nd142Di", "Sm147Di", "Er168Di"]
    np.testing.assert_allclose(read.X, values, rtol=1e-6)
    assert "counts" not in read.layers
    assert read.uns["scmodal"]["instrument"] == "CyTOF"
    contents = io.probe(tmp_path / "c.fcs", "cytometry")
    assert (contents.n_cells, contents.n_features) == (10, 4)
    for look in (io.probe, io.read_modality):
        with pytest.raises(InputError, match="cytometry, not rna"):
            look(tmp_path / "c.fcs", "rna")


# ---------------------------------------------------------------------------------------------------------------------
# files that are not what they say


def truncated(path: Path) -> None:
    rna_anndata(200).write_h5ad(path)
    data = path.read_bytes()
    path.write_bytes(data[: len(data) // 2])


def foreign_hdf5(path: Path) -> None:
    with h5py.File(path, "w") as store:
        store["things"] = [1, 2]


@pytest.mark.parametrize(
    ("name", "make", "words"),
    [
        ("a.h5ad", lambda p: None, ["not found"]),
        ("a.h5ad", lambda p: p.write_text("cell,CD4\na,1\n"), ["not an h5ad", "cell,CD4"]),
        ("a.h5mu", lambda p: p.write_text("cell,CD4\na,1\n"), ["not an h5mu"]),
        ("a.h5ad", lambda p: p.write_bytes(b""), ["empty"]),
        ("a.h5ad", truncated, ["cut short"]),
        ("a.h5ad", lambda p: p.write_bytes(gzip.compress(b"any")), ["not an h5ad", "a gzip archive: unpack it first"]),
        ("a.h5ad", lambda p: p.mkdir(), ["folder without a matrix.mtx"]),
        ("a.h5", foreign_hdf5, ["neither AnnData", "things"]),
        ("a.fcs", lambda p: p.write_text("text"), ["not an FCS"]),
        ("a.fcs", lambda p: p.write_bytes(b"FCS3.1" + b" " * 300), ["FCS file that cannot be read"]),
        ("a.xlsx", lambda p: p.write_bytes(b"PK\x03\x04"), ["Excel"]),
        ("a.rds", lambda p: p.write_bytes(b"RDX3\n\x00\x00"), ["not read"]),
        ("a.mtx", lambda p: p.write_text("%%MatrixMarket matrix\n"), ["give the folder"]),
        ("a.csv.gz", lambda p: p.write_bytes(b"\x1f\x8b\x08\x00broken"), ["cannot be unpacked"]),
        ("a.csv", lambda p: p.write_bytes(b"\xe4\xf6,b\nc,1\n"), ["save it as .csv or .tsv in UTF-8"]),
        ("a.csv", lambda p: p.write_text("cell,CD4\nc,1\n", "utf-16"), ["UTF-16", "save it as .csv or .tsv in UTF-8"]),
    ],
)  # fmt: skip
@pytest.mark.parametrize("look", [io.probe, io.read_modality])
def test_wrong_files(tmp_path: Path, name: str, make, words: list[str], look) -> None:
    path = tmp_path / name
    make(path)
    with pytest.raises(InputError) as exc:
        look(path, "cytometry" if name.endswith(".fcs") else "rna")
    for word in [*words, name]:
        assert word in problem(exc)


def test_damaged_matrix_inside_a_good_h5ad(tmp_path: Path) -> None:
    path = tmp_path / "a.h5ad"
    rna_anndata().write_h5ad(path)
    with h5py.File(path, "a") as store:
        del store["X/indptr"]
    with pytest.raises(InputError, match="cannot be read as h5ad"):
        io.read_modality(path, "rna")


@pytest.mark.parametrize(("n", "p", "what"), [(0, 6, "no cells"), (8, 0, "no features")])
@pytest.mark.parametrize("look", [io.probe, io.read_modality])
def test_empty_matrix(tmp_path: Path, n: int, p: int, what: str, look) -> None:
    rna_anndata()[:n, :p].copy().write_h5ad(tmp_path / "a.h5ad")
    with pytest.raises(InputError, match=what):
        look(tmp_path / "a.h5ad", "rna")


def test_unreadable_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "a.h5ad"
    rna_anndata().write_h5ad(path)

    def refuse(*args: object, **kwargs: object) -> None:
        raise PermissionError(13, "Permission denied", str(path))

    monkeypatch.setattr(Path, "open", refuse)  # root reads everything, so chmod would not do
    with pytest.raises(InputError, match="may not be read"):
        io.probe(path, "rna")


def test_check_file_lists_the_columns_and_the_nearest(tmp_path: Path) -> None:
    rna_anndata().write_h5ad(tmp_path / "a.h5ad")
    assert io.check_file(tmp_path / "a.h5ad", "rna", "label", None) == []
    problems = io.check_file(tmp_path / "a.h5ad", "rna", "labels", "batch", name="s3://b/a.h5ad")
    assert len(problems) == 2
    assert "label_key 'labels'" in problems[0]
    assert "did you mean 'label'" in problems[0]
    assert "s3://b/a.h5ad" in problems[0]


def test_a_light_look_imports_neither_anndata_nor_scanpy(tmp_path: Path) -> None:
    rna_anndata().write_h5ad(tmp_path / "a.h5ad")
    code = (
        "import sys; from scmodal import contracts;"
        "assert not {'numpy', 'pandas', 'h5py'} & set(sys.modules), 'contracts is heavy';"
        f"from scmodal import io; assert io.check_file({str(tmp_path / 'a.h5ad')!r}, 'rna', 'label') == [];"
        "heavy = {'anndata', 'scanpy', 'torch', 'mudata', 'sklearn'} & set(sys.modules); assert not heavy, heavy"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


# ---------------------------------------------------------------------------------------------------------------------
# writers


def fail_half_way(target: Path, error: Exception, folder: bool = False) -> None:
    with io.atomic_path(target) as temporary:
        if folder:
            temporary.mkdir()
        (temporary / "x" if folder else temporary).write_text("half")
        raise error


def test_atomic_file_appears_whole_or_not_at_all(tmp_path: Path) -> None:
    target = tmp_path / "deep" / "a.tsv.gz"
    with io.atomic_path(target) as temporary:
        assert temporary.parent == target.parent
        assert temporary.suffixes == [".tsv", ".gz"]
        temporary.write_text("new")
        assert not target.exists()
    assert target.read_text() == "new"
    with pytest.raises(RuntimeError, match="half way"):
        fail_half_way(target, RuntimeError("half way"))
    assert target.read_text() == "new"
    assert [p.name for p in target.parent.iterdir()] == ["a.tsv.gz"]


def test_atomic_folder_leaves_what_is_not_its_own(tmp_path: Path) -> None:
    target = tmp_path / "run"
    for text in ("first", "second"):
        with io.atomic_path(target) as temporary:
            (temporary / "model").mkdir(parents=True)
            (temporary / "model" / text).write_text(text)
            (temporary / "same.txt").write_text(text)
        (target / "notes.txt").write_text("the user's")
    assert sorted(p.name for p in target.iterdir()) == ["model", "notes.txt", "same.txt"]
    assert [p.name for p in (target / "model").iterdir()] == ["second"]
    assert (target / "same.txt").read_text() == "second"
    with pytest.raises(RuntimeError):
        fail_half_way(target, RuntimeError(), folder=True)
    assert [p.name for p in tmp_path.iterdir()] == ["run"]
    assert (target / "same.txt").read_text() == "second"


def test_a_file_does_not_replace_a_folder(tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "notes.txt").write_text("the user's")
    with pytest.raises(InputError, match="is a folder already"):
        io.write_json({}, tmp_path / "out")
    assert [p.name for p in tmp_path.iterdir()] == ["out"]
    assert (tmp_path / "out" / "notes.txt").exists()


def test_not_writable_names_the_folder(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match=r"file/out.*not writable"):
        io.check_writable(tmp_path / "file" / "out")
    with pytest.raises(InputError, match="not writable"):
        io.write_json({}, tmp_path / "file" / "out" / "a.json")


def test_writable_folder_is_not_made_by_the_check(tmp_path: Path) -> None:
    io.check_writable(tmp_path / "new" / "deeper")
    assert list(tmp_path.iterdir()) == []


def test_full_disk_is_told_and_leaves_nothing(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="No space left"):
        fail_half_way(tmp_path / "a.bin", OSError(28, "No space left on device"))
    assert list(tmp_path.iterdir()) == []


def test_an_error_that_is_not_the_disks_stays_itself(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="other"):
        fail_half_way(tmp_path / "a.bin", FileNotFoundError(2, "No such file", "other"))
    with pytest.raises(FileNotFoundError, match="nothing was written"), io.atomic_path(tmp_path / "a.bin"):
        pass
    assert list(tmp_path.iterdir()) == []


def test_json_round_trip(tmp_path: Path) -> None:
    value = {
        "z": np.float32(1.5),
        "a": [np.int64(3), float("nan")],
        "p": Path("x"),
        "t": (True, None),
        "s": np.array(["q"]),
    }
    io.write_json(value, tmp_path / "a.json")
    assert io.read_json(tmp_path / "a.json") == {"z": 1.5, "a": [3, None], "p": "x", "t": [True, None], "s": ["q"]}
    assert list(json.loads((tmp_path / "a.json").read_text())) == ["z", "a", "p", "t", "s"]
    (tmp_path / "b.json").write_text("{")
    with pytest.raises(InputError, match="not a JSON"):
        io.read_json(tmp_path / "b.json")
    with pytest.raises(InputError, match="not found"):
        io.read_json(tmp_path / "c.json")


def test_tables_are_the_same_bytes_each_time(tmp_path: Path) -> None:
    frame = pd.DataFrame({"cell": ["a", "b"], "x": [1.0, np.nan]})
    io.write_tsv(frame, tmp_path / "a.tsv.gz")
    io.write_tsv(frame, tmp_path / "b.tsv.gz")
    io.write_tsv(frame, tmp_path / "c.tsv")
    assert (tmp_path / "a.tsv.gz").read_bytes() == (tmp_path / "b.tsv.gz").read_bytes()
    assert (
        gzip.decompress((tmp_path / "a.tsv.gz").read_bytes())
        == (tmp_path / "c.tsv").read_bytes()
        == b"cell\tx\na\t1.0\nb\t\n"
    )
    io.write_parquet(frame, tmp_path / "a.parquet")
    pd.testing.assert_frame_equal(pd.read_parquet(tmp_path / "a.parquet"), frame)


def test_h5ad_and_h5mu_writers(tmp_path: Path) -> None:
    adata = rna_anndata()
    io.write_h5ad(adata, tmp_path / "a.h5ad")
    assert anndata.read_h5ad(tmp_path / "a.h5ad").shape == adata.shape
    mdata = two_modalities(tmp_path / "m.h5mu")
    mdata.uns["scmodal"] = {"modalities": ["gex", "adt"]}
    io.write_h5mu(mdata, tmp_path / "n.h5mu")
    back = io.read_h5mu(tmp_path / "n.h5mu")
    assert list(back.mod) == ["gex", "adt"]
    assert back.uns["scmodal"]["modalities"] == ["gex", "adt"]
    with pytest.raises(InputError, match="h5mu"):
        io.read_h5mu(tmp_path / "a.h5ad")


def test_read_prepared_refuses_what_is_not(tmp_path: Path) -> None:
    rna_anndata().write_h5ad(tmp_path / "a.h5ad")
    with pytest.raises(InputError, match=r"not prepared.*scmodal preprocess"):
        io.read_prepared(tmp_path / "a.h5ad")
    mdata = two_modalities(tmp_path / "m.h5mu")
    with pytest.raises(InputError, match=r"prepared.*scmodal preprocess"):
        io.read_prepared(tmp_path / "m.h5mu")
    mdata.uns["scmodal"] = {"modalities": ["gex", "adt"]}
    io.write_h5mu(mdata, tmp_path / "run" / "integrated.h5mu")
    with pytest.raises(InputError, match=r"result of an integration.*preprocess/\w+\.h5ad"):
        io.read_prepared(tmp_path / "run" / "integrated.h5mu")


def test_folder_where_a_file_is_needed(tmp_path: Path) -> None:
    two_modalities(tmp_path / "integrated.h5mu")
    rna_anndata().write_h5ad(tmp_path / "a.h5ad")
    with pytest.raises(InputError, match=rf"integration's results.*give {tmp_path}/integrated\.h5mu"):
        io.read_h5mu(tmp_path)
    (tmp_path / "integrated.h5mu").unlink()
    with pytest.raises(InputError, match=rf"give {tmp_path}/a\.h5ad"):
        io.read_modality(tmp_path, "rna")


# ---------------------------------------------------------------------------------------------------------------------
# published data


@pytest.mark.parametrize(
    ("file", "modality", "shape"),
    [
        ("hao_pbmc_cite/quickstart_pbmc_mosaic.h5mu", "rna", (1200, 500)),
        ("hao_pbmc_cite/quickstart_pbmc_mosaic.h5mu", "protein", (1200, 224)),
        ("cite_pbmc10k/adt.h5ad", "protein", (6855, 14)),
        ("snare_cortex/rna.h5ad", "rna", (5232, 1677)),
    ],
)
def test_published_files(shared_data: Path, file: str, modality: str, shape: tuple[int, int]) -> None:
    contents = io.probe(shared_data / file, modality)
    assert (contents.n_cells, contents.n_features) == shape
    read = io.read_modality(shared_data / file, modality)
    assert read.shape == shape
    assert read.uns["scmodal"]["counts_from"] == "X"


def test_outputs_do_not_take_the_place_of_inputs_or_devices(tmp_path: Path) -> None:
    given = tmp_path / "in.h5ad"
    given.write_text("precious")
    (tmp_path / "link.h5ad").symlink_to(given)
    for output in (given, tmp_path / "link.h5ad", tmp_path / "." / "in.h5ad"):
        with pytest.raises(InputError, match="is an input as well"):
            io.check_outputs(h5ad=output, inputs=[None, given])
    io.check_outputs(h5ad=tmp_path / "out.h5ad", inputs=[given])
    os.mkfifo(tmp_path / "pipe")
    for output in (tmp_path / "pipe", "/dev/stdout", "/dev/null"):
        with pytest.raises(InputError, match="a pipe or a device"):
            io.check_outputs(output)
    with pytest.raises(InputError, match="a pipe or a device"):
        io.write_json({}, tmp_path / "pipe")
    assert stat.S_ISFIFO((tmp_path / "pipe").stat().st_mode)


def test_what_an_earlier_run_left_does_not_pass_for_this_ones(tmp_path: Path) -> None:
    for round_, names in enumerate((("a", "b", "figures/c"), ("a",))):
        with io.atomic_path(tmp_path / "out", optional=["b", "figures", "never"]) as folder:
            for name in names:
                (folder / name).parent.mkdir(parents=True, exist_ok=True)
                (folder / name).write_text(str(round_))
        (tmp_path / "out" / "mine").write_text("of the user")
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["a", "mine"]
    assert (tmp_path / "out" / "a").read_text() == "1"
