"""Large data: what is computed in pieces from disk equals, bit for bit, what is computed in memory."""

from __future__ import annotations

import resource
from pathlib import Path

import anndata
import h5py
import mudata
import numpy as np
import pandas as pd
import pytest
import scipy.sparse as sp

from scmodal import ScModal, components, io, preprocess, rows, simulate_large
from scmodal.contracts import InputError
from scmodal.impute import impute_to_file
from scmodal.inputs import build_inputs
from scmodal.io import to_csr
from scmodal.links import build_links
from scmodal.presets import get_preset
from scmodal.results import write_run
from scmodal.rows import CountView, LazyRows, RowStore
from scmodal.transfer import transfer_between

CELLS, GENES = 500, 120
SMALL = get_preset("default", steps=6, batch_size=40)


@pytest.fixture(autouse=True)
def small_blocks(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Many blocks in small data."""
    monkeypatch.setattr(rows, "BLOCK", 64)
    monkeypatch.setattr(CountView.blocks, "__defaults__", (64,))
    monkeypatch.setattr("scmodal.inputs.BLOCK", 64)
    monkeypatch.setattr("scmodal.simulate_large.CHUNK", 64)


@pytest.fixture(scope="module")
def raw(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Simulated files, with cells without counts here and there, and integers in the proteins' file."""
    folder = tmp_path_factory.mktemp("raw")
    simulate_large.write_large_simulation(folder, CELLS, GENES, 12, 4, seed=3)
    adata = anndata.read_h5ad(folder / "rna.h5ad")
    keep = np.ones(CELLS)
    keep[[0, 63, 64, 200, 201, 202, CELLS - 1]] = 0
    adata.X = sp.csr_matrix(sp.diags(keep) @ adata.X, dtype=np.float32)  # leaves zeros stored
    adata.write_h5ad(folder / "rna.h5ad", compression="gzip")
    protein = anndata.read_h5ad(folder / "protein.h5ad")
    protein.X = protein.X.astype(np.int64)
    protein.write_h5ad(folder / "protein.h5ad")
    return folder


def on_disk(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(io.MEMORY_VARIABLE, "0")


def assert_same(a: anndata.AnnData, b: anndata.AnnData) -> None:
    """Equal to the last bit."""
    pd.testing.assert_frame_equal(a.obs, b.obs, check_exact=True)
    pd.testing.assert_frame_equal(a.var, b.var, check_exact=True)
    assert sorted(a.layers) == sorted(b.layers)
    assert sorted(a.obsm) == sorted(b.obsm)
    for key in a.obsm:
        np.testing.assert_array_equal(a.obsm[key], b.obsm[key])
    for key in ("X", *a.layers):
        left, right = (item.X if key == "X" else item.layers[key] for item in (a, b))
        assert left.dtype == right.dtype
        if sp.issparse(left):
            for part in ("indptr", "indices", "data"):
                np.testing.assert_array_equal(getattr(left, part), getattr(right, part))
        else:
            np.testing.assert_array_equal(left, right)


@pytest.fixture(scope="module")
def prepared(raw: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Prepared in memory."""
    folder = tmp_path_factory.mktemp("prepared")
    for name in ("rna", "protein"):
        preprocess.preprocess_to_file([raw / f"{name}.h5ad"], name, folder / f"{name}.h5ad", "cell_type", "batch", 70)
    return {name: folder / f"{name}.h5ad" for name in ("rna", "protein")}


@pytest.mark.parametrize("name", ["rna", "protein"])
@pytest.mark.parametrize("batch_key", ["batch", None])
def test_preparation_from_disk_is_that_in_memory(
    raw: Path, name: str, batch_key: str | None, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    arguments = ([raw / f"{name}.h5ad"], name)
    preprocess.preprocess_to_file(*arguments, tmp_path / "memory.h5ad", "cell_type", batch_key, 70)
    on_disk(monkeypatch)
    told = preprocess.preprocess_to_file(*arguments, tmp_path / "disk.h5ad", "cell_type", batch_key, 70)
    assert told.X is None
    monkeypatch.delenv(io.MEMORY_VARIABLE)
    memory, disk = (io.read_prepared(tmp_path / f"{way}.h5ad") for way in ("memory", "disk"))
    assert_same(memory, disk)
    assert disk.uns["scmodal"] == memory.uns["scmodal"] == io.plain(told.uns["scmodal"])
    assert disk.n_obs == (CELLS - 7 if name == "rna" else CELLS)


def test_preparation_from_disk_of_one_feature_type_of_an_h5mu(
    raw: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    adata = anndata.read_h5ad(raw / "rna.h5ad")
    adata.var["feature_types"] = ["Gene Expression"] * (GENES - 20) + ["Antibody Capture"] * 20
    mdata = mudata.MuData({"rna": adata})
    mdata.obs["donor"] = "d1"
    mdata.write(tmp_path / "both.h5mu")
    preprocess.preprocess_to_file([tmp_path / "both.h5mu"], "rna", tmp_path / "memory.h5ad", "donor", None, 70)
    on_disk(monkeypatch)
    preprocess.preprocess_to_file([tmp_path / "both.h5mu"], "rna", tmp_path / "disk.h5ad", "donor", None, 70)
    memory, disk = (anndata.read_h5ad(tmp_path / f"{way}.h5ad") for way in ("memory", "disk"))
    assert_same(memory, disk)
    assert disk.n_vars <= GENES - 20
    assert list(disk.uns["scmodal"]["messages"]) == list(memory.uns["scmodal"]["messages"])


def test_ranks_of_many_blocks_are_those_of_scanpy(raw: Path) -> None:
    import scanpy as sc

    adata = preprocess.preprocess_files(
        [raw / "rna.h5ad"], "rna", batch_key="batch", n_top_genes=40, linked_features=[]
    )
    reference = anndata.AnnData(adata.layers["counts"], obs=adata.obs, var=adata.var[[]])
    sc.pp.highly_variable_genes(reference, flavor="seurat_v3", n_top_genes=40, batch_key="batch")
    chosen = reference.var[reference.var["highly_variable"]]
    chosen = chosen.sort_values(
        ["highly_variable_rank", "highly_variable_nbatches"], ascending=[True, False], kind="stable"
    )
    assert list(adata.var["highly_variable_rank"].dropna().sort_values().index) == list(chosen.index)


def inputs_of(prepared: dict[str, Path], **settings: object) -> list:
    adatas = [io.read_prepared(path) for path in prepared.values()]
    return build_inputs(adatas, build_links(adatas)[0], get_preset(SMALL, **settings))


def test_lazy_rows_are_the_rows_in_memory(prepared: dict[str, Path], monkeypatch: pytest.MonkeyPatch) -> None:
    memory = inputs_of(prepared)
    on_disk(monkeypatch)
    lazy = inputs_of(prepared)
    for a, b in zip(memory, lazy):
        assert isinstance(a.x, np.ndarray)
        assert isinstance(b.x, LazyRows)
        assert b.x.shape == a.x.shape
        assert a.recipe.to_dict() == b.recipe.to_dict()
        index = np.array([3, len(a.x) - 1, 3, 0, 77])
        np.testing.assert_array_equal(b.x.take(index), a.x[index])
        assert b.x.take(index).dtype == np.float32
        for size in (1, 50, 10_000):
            np.testing.assert_array_equal(np.concatenate([part for _, part in b.x.chunks(size)]), a.x)
        np.testing.assert_array_equal(a.linked[0], b.linked[0])
        b.x.close()


def test_one_large_and_one_small_data_set(prepared: dict[str, Path], monkeypatch: pytest.MonkeyPatch) -> None:
    memory = inputs_of(prepared)
    monkeypatch.setenv(io.MEMORY_VARIABLE, str(4 * memory[1].x.size / 1e9 + 1e-6))
    rna, protein = inputs_of(prepared)
    assert isinstance(rna.x, LazyRows)
    np.testing.assert_array_equal(protein.x, memory[1].x)
    np.testing.assert_array_equal(rna.x.take(np.arange(len(rna.x))), memory[0].x)


def test_components_found_on_some_cells(prepared: dict[str, Path], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(components, "PCA_CELLS", 300)
    monkeypatch.setattr(components, "_CHUNK", 90)
    memory = inputs_of(prepared)
    on_disk(monkeypatch)
    lazy = inputs_of(prepared)
    np.testing.assert_array_equal(memory[0].linked[0], lazy[0].linked[0])
    few = components.principal_components(memory[0].x, 5)
    monkeypatch.setattr(components, "PCA_CELLS", 20_000)
    all_cells = components.principal_components(memory[0].x, 5)
    assert few.shape == all_cells.shape == (CELLS - 7, 5)
    assert abs(np.corrcoef(few[:, 0], all_cells[:, 0])[0, 1]) > 0.98


def test_a_run_from_disk_is_that_in_memory(
    prepared: dict[str, Path], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    folders = []
    for way in ("memory", "disk"):
        if way == "disk":
            on_disk(monkeypatch)
        adatas = [io.read_prepared(path) for path in prepared.values()]
        assert io.is_on_disk(adatas[0].X) == io.is_on_disk(adatas[0].layers["counts"]) == (way == "disk")
        model = ScModal(SMALL, seed=1, device="cpu").fit(adatas)
        write_run(model, adatas, tmp_path / way)
        impute_to_file(model, "rna", "protein", adatas[0], tmp_path / way / "imputed.h5ad")
        np.testing.assert_array_equal(model.scaled(adatas[0])[0], model.scaled(anndata.read_h5ad(prepared["rna"]))[0])
        folders.append(tmp_path / way)
    memory, disk = folders
    assert (memory / "model/weights.safetensors").read_bytes() == (disk / "model/weights.safetensors").read_bytes()
    for table in ("embedding.parquet", "history.parquet"):
        pd.testing.assert_frame_equal(pd.read_parquet(memory / table), pd.read_parquet(disk / table), check_exact=True)
    opened = io.read_h5mu(disk / "integrated.h5mu")
    assert io.is_on_disk(opened["rna"].layers["counts"])
    labels = transfer_between(opened, "rna", "protein", "cell_type")
    monkeypatch.delenv(io.MEMORY_VARIABLE)
    a, b = (io.read_h5mu(folder / "integrated.h5mu") for folder in folders)
    pd.testing.assert_frame_equal(labels, transfer_between(b, "rna", "protein", "cell_type"))
    pd.testing.assert_frame_equal(opened["rna"].obs, b["rna"].obs)
    assert opened.uns["scmodal"] == b.uns["scmodal"]
    assert list(a.mod) == list(b.mod) == ["rna", "protein"]
    for name in a.mod:
        assert_same(a[name], b[name])
        assert "X_scmodal" in b[name].obsm
    assert b.uns["scmodal"] == a.uns["scmodal"]
    assert_same(anndata.read_h5ad(memory / "imputed.h5ad"), anndata.read_h5ad(disk / "imputed.h5ad"))
    table = pd.read_parquet(disk / "embedding.parquet")
    assert list(table["cell"]) == [*b["rna"].obs_names, *b["protein"].obs_names]


def test_rows_in_the_narrowest_types_that_hold_them(tmp_path: Path) -> None:
    for highest, size in ((200, 3), (60_000, 4), (70_000, 6), (0.5, 6)):
        matrix = sp.random(90, 30, 0.2, format="csr", random_state=0, dtype=np.float32)
        matrix.data[:] = np.linspace(1, highest, matrix.nnz) if highest < 1 else np.rint(matrix.data * highest) + 1
        low, high, whole = rows.column_ranges(CountView(matrix).blocks())
        store = RowStore(CountView(matrix).blocks(), 30, float(high.max()), whole)
        assert store._record.itemsize == size
        np.testing.assert_array_equal(store[10:50].toarray(), matrix[10:50].toarray())
        np.testing.assert_array_equal(store.take(np.array([89, 0, 0])).toarray(), matrix[[89, 0, 0]].toarray())
        store.close()
        assert (low == 0).all()


def test_the_temporary_folder_is_told(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    matrix = sp.random(2000, 100, 0.5, format="csr", random_state=0, dtype=np.float32)
    monkeypatch.setenv("TMPDIR", str(tmp_path / "nowhere"))
    with pytest.raises(InputError, match=r"nowhere.*No such file.*TMPDIR"):
        RowStore(CountView(matrix).blocks(), 100, 1.0, False)
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, hard))  # the disk takes no more
    try:
        with pytest.raises(InputError, match=r"File too large.*GB are free there.*TMPDIR"):
            RowStore(CountView(matrix).blocks(), 100, 1.0, False)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert list(tmp_path.iterdir()) == []


def test_nothing_is_left_in_the_temporary_folder(
    prepared: dict[str, Path], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    on_disk(monkeypatch)
    items = inputs_of(prepared)
    assert list(tmp_path.iterdir()) == []  # the file has no name even while it is in use
    items[0].x.close()
    with pytest.raises(ValueError, match="closed"):
        items[0].x.take(np.array([0]))


def test_a_large_matrix_stored_by_feature_is_refused(
    raw: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    adata = anndata.read_h5ad(raw / "rna.h5ad")
    adata.X = adata.X.tocsc()
    adata.write_h5ad(tmp_path / "csc.h5ad")
    preprocess.preprocess_to_file([tmp_path / "csc.h5ad"], "rna", tmp_path / "out.h5ad")
    on_disk(monkeypatch)
    with pytest.raises(InputError, match=r"csc\.h5ad: .*by feature \(CSC\).*SCMODAL_IN_MEMORY_GB"):
        preprocess.preprocess_to_file([tmp_path / "csc.h5ad"], "rna", tmp_path / "out2.h5ad")
    assert not (tmp_path / "out2.h5ad").exists()


def test_files_that_are_damaged(raw: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    on_disk(monkeypatch)
    whole = (raw / "rna.h5ad").read_bytes()
    short = tmp_path / "short.h5ad"
    short.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(InputError, match=r"short\.h5ad: .*cut short"):
        preprocess.preprocess_to_file([short], "rna", tmp_path / "out.h5ad")
    with h5py.File(raw / "rna.h5ad") as file:
        place = file["X/indices"].id.get_chunk_info(0)
    damaged = tmp_path / "damaged.h5ad"
    damaged.write_bytes(whole[: place.byte_offset] + b"\0" * place.size + whole[place.byte_offset + place.size :])
    with pytest.raises(InputError, match=r"damaged\.h5ad: cannot be read"):
        preprocess.preprocess_to_file([damaged], "rna", tmp_path / "out.h5ad")
    assert not (tmp_path / "out.h5ad").exists()


def test_fractions_on_disk_are_told_with_their_place(
    raw: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    adata = anndata.read_h5ad(raw / "rna.h5ad")
    adata.X[7, 5] = 0.5
    adata.write_h5ad(tmp_path / "half.h5ad")
    on_disk(monkeypatch)
    with pytest.raises(InputError, match=f"1 fractional value, first in cell '{adata.obs_names[7]}', feature"):
        preprocess.preprocess_to_file([tmp_path / "half.h5ad"], "rna", tmp_path / "out.h5ad")


def test_the_limit_must_be_a_number(monkeypatch: pytest.MonkeyPatch) -> None:
    assert io.in_memory_limit() == 1.5e9
    monkeypatch.setenv(io.MEMORY_VARIABLE, "2GB")
    with pytest.raises(InputError, match=r"SCMODAL_IN_MEMORY_GB='2GB'.*for example 1\.5"):
        io.in_memory_limit()


@pytest.mark.parametrize("zarr_format", [2, 3])
def test_zarr(raw: Path, zarr_format: int, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    adata = anndata.read_h5ad(raw / "rna.h5ad")
    with anndata.settings.override(zarr_write_format=zarr_format):
        adata.write_zarr(tmp_path / "rna.zarr")
    assert io.probe(tmp_path / "rna.zarr", "rna") == io.Contents("zarr", CELLS, GENES, tuple(adata.obs))
    for way in ("memory", "disk"):
        preprocess.preprocess_to_file([tmp_path / "rna.zarr"], "rna", tmp_path / f"{way}.h5ad", "cell_type", None, 70)
        on_disk(monkeypatch)
    preprocess.preprocess_to_file([raw / "rna.h5ad"], "rna", tmp_path / "h5ad.h5ad", "cell_type", None, 70)
    memory, disk, h5ad = (anndata.read_h5ad(tmp_path / f"{way}.h5ad") for way in ("memory", "disk", "h5ad"))
    assert_same(memory, h5ad)
    assert_same(disk, h5ad)
    lost = next(p for p in (tmp_path / "rna.zarr/X/indices").rglob("*") if p.name == "0")
    lost.rename(tmp_path / "lost")
    with pytest.raises(InputError, match=r"rna\.zarr: pieces of the Zarr store are missing"):
        preprocess.preprocess_to_file([tmp_path / "rna.zarr"], "rna", tmp_path / "out.h5ad")


def test_a_zarr_store_of_something_else(tmp_path: Path) -> None:
    import zarr

    zarr.create_group(tmp_path / "a.zarr").create_group("images")
    with pytest.raises(InputError, match=r"a\.zarr: a Zarr store, but not of an AnnData \(top level: 'images'\)"):
        io.sniff(tmp_path / "a.zarr")


def test_dense_counts_on_disk(raw: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    adata = anndata.read_h5ad(raw / "rna.h5ad")
    adata.X = adata.X.toarray()
    adata.write_h5ad(tmp_path / "dense.h5ad")
    for way in ("memory", "disk"):
        preprocess.preprocess_to_file([tmp_path / "dense.h5ad"], "rna", tmp_path / f"{way}.h5ad", None, None, 70)
        on_disk(monkeypatch)
    assert_same(*(anndata.read_h5ad(tmp_path / f"{way}.h5ad") for way in ("memory", "disk")))


def test_positions_of_two_types_are_brought_to_one() -> None:
    """Files hold 64-bit row ends beside 32-bit columns; scipy would widen all columns for every slice."""
    counts = sp.random(50, 20, density=0.3, format="csr", dtype=np.float32, random_state=0)
    counts.indptr = counts.indptr.astype(np.int64)
    for matrix in (CountView(counts).matrix, to_csr(counts)):
        assert matrix.indptr.dtype == matrix.indices.dtype == np.int32
        assert np.shares_memory(matrix.data, counts.data)
        assert (matrix != counts).nnz == 0
    assert counts.indptr.dtype == np.int64
    np.testing.assert_array_equal(CountView(counts).to_memory().toarray(), counts.toarray())
