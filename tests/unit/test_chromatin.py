"""Chromatin in: peaks in all spellings and formats, gene activity, genome builds, and what is refused."""

from __future__ import annotations

import gzip
from dataclasses import replace
from pathlib import Path

import anndata as ad
import h5py
import numpy as np
import pandas as pd
import pytest
import scipy.sparse as sp

from scmodal import cli, io, preprocess
from scmodal.chromatin import AtacOptions, read_atac
from scmodal.contracts import InputError, read_samplesheet
from scmodal.embed import read_new_cells
from scmodal.fragments import read_cells
from scmodal.gene_activity import DECAY, activity_weights
from scmodal.genes import read_genes
from scmodal.genome import likely_build, match_genome
from scmodal.intervals import fit_names, has_peaks, overlapping, parse_peaks, read_peaks
from scmodal.lsi import lsi, tf_idf

GENES = pd.DataFrame(
    {
        "chrom": ["chr1", "chr1", "chr2"],
        "start": [10_000, 40_000, 10_000],
        "end": [20_000, 50_000, 20_000],
        "gene": ["A", "B", "C"],
        "gene_id": ["", "", ""],
        "strand": ["+", "-", "+"],
        "tss": [10_000, 49_999, 10_000],
    }
)


def _var(*names: str) -> pd.DataFrame:
    return pd.DataFrame(index=pd.Index(list(names), dtype=object))


# ---- names ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "place"),
    [
        ("chr1:1-2", ("chr1", 1, 2)),
        ("chr1-10-20", ("chr1", 10, 20)),
        ("chr1_10_20", ("chr1", 10, 20)),
        ("chr1:1,000-2,000", ("chr1", 1000, 2000)),
        ("X:5-9", ("X", 5, 9)),
        ("chr1_KI270706v1_random_10_20", ("chr1_KI270706v1_random", 10, 20)),
        ("GL000194.1:10-20", ("GL000194.1", 10, 20)),
        ("HLA-A-1:10-20", ("HLA-A-1", 10, 20)),
        ("chr-x-10-20", ("chr-x", 10, 20)),
    ],
)
def test_peak_names(name, place):
    assert tuple(parse_peaks(_var(name), "x").iloc[0]) == place


def test_peaks_from_columns_of_var():
    var = pd.DataFrame({"seqnames": ["chr1", "chr1"], "start": [1, 5], "End": [3.0, 9.0]}, index=["0", "1"])
    assert parse_peaks(var, "x").to_numpy().tolist() == [["chr1", 1, 3], ["chr1", 5, 9]]
    for names, are in ((["0", "1"], True), (["s1_peak_1", "s1_peak_2b"], True), (["CD4", "ACTB"], False)):
        assert has_peaks(var.set_axis(names)) is are


def test_faulty_peaks_are_named():
    with pytest.raises(InputError) as error:
        parse_peaks(_var("chr1:9-2", "chr1:5-5", "chr1:1-2", "chr1-1-2", "chr2:3-4"), "p.h5ad")
    text = str(error.value)
    assert "1 peaks end before they start ('chr1:9-2')" in text
    assert "no length ('chr1:5-5')" in text
    assert "same interval as another one ('chr1-1-2')" in text
    with pytest.raises(InputError, match=r"1 of 3 features are no peaks \('CD3'\)"):
        parse_peaks(_var("chr1:1-2", "chr1:3-4", "CD3"), "p.h5ad")


def test_only_names_that_the_genes_do_not_know_are_changed():
    assert fit_names(["1", "2", "MT", "GL1.1"], ["chr1", "chr2", "chrM"]) == {"1": "chr1", "2": "chr2", "MT": "chrM"}
    assert fit_names(["chr1"], ["1", "2"]) == {"chr1": "1"}
    assert fit_names(["chr1", "1"], ["chr1"]) == {}


def test_overlaps_equal_a_plain_search():
    rng = np.random.default_rng(0)
    start, target = rng.integers(0, 500, 60), rng.integers(0, 500, 80)
    end, target_end = start + rng.integers(1, 60, 60), target + rng.choice([1, 5, 300], 80)
    query, found = overlapping(start, end, target, target_end)
    plain = {(i, j) for i in range(60) for j in range(80) if start[i] < target_end[j] and target[j] < end[i]}
    assert len(query) == len(plain)
    assert set(zip(query.tolist(), found.tolist(), strict=True)) == plain


def test_bed_of_peaks(tmp_path):
    path = tmp_path / "peaks.bed"
    path.write_text("track x\nchr2\t5\t9\tname\nchr1\t1\t3\nchr1\t1\t3\n")
    assert read_peaks(str(path)).to_numpy().tolist() == [["chr1", 1, 3], ["chr2", 5, 9]]
    path.write_text("chr1\t1\n")
    with pytest.raises(InputError, match="line 1"):
        read_peaks(str(path))
    path.write_text("chr1\t9\t3\n")
    with pytest.raises(InputError, match="end before they start"):
        read_peaks(str(path))
    path.write_text("")
    with pytest.raises(InputError, match="no peaks"):
        read_peaks(str(path))


# ---- activity ------------------------------------------------------------------------------------------------------


def test_body_weights_count_the_gene_and_what_is_upstream():
    # Upstream of A (+) lies before it, of B (-) behind it.
    peaks = parse_peaks(
        _var(
            "chr1:8100-8200", "chr1:7800-8000", "chr1:15000-15100", "chr1:20000-20100", "chr1:51900-52100", "chr3:1-9"
        ),
        "x",
    )
    weights = activity_weights(peaks, GENES).toarray()
    assert weights[:, 0].tolist() == [1, 0, 1, 0, 0, 0]
    assert weights[:, 1].tolist() == [0, 0, 0, 0, 1, 0]
    assert weights[:, 2].sum() == 0


def test_weighted_falls_with_the_distance_to_the_gene():
    peaks = parse_peaks(_var("chr1:15000-15100", "chr1:25000-25100", "chr1:3000-3100", "chr2:400000-400100"), "x")
    weights = activity_weights(peaks, GENES, "weighted").toarray()
    assert weights[0, 0] == 1
    np.testing.assert_allclose(weights[1, 0], np.exp(-5000 / DECAY), rtol=1e-6)
    np.testing.assert_allclose(weights[2, 0], np.exp(-(8000 - 3100) / DECAY), rtol=1e-6)
    assert weights[3].sum() == 0
    with pytest.raises(InputError, match="unknown gene activity"):
        activity_weights(peaks, GENES, "tss")


# ---- components ----------------------------------------------------------------------------------------------------


def test_lsi_finds_groups_and_drops_the_depth():
    rng = np.random.default_rng(0)
    group = np.repeat([0, 1], 100)
    rate = np.where((np.arange(400) < 200)[None, :] == (group == 0)[:, None], 0.4, 0.1)
    depth = np.exp(rng.normal(0, 0.6, 200))[:, None]
    counts = sp.csr_matrix(rng.poisson(rate * depth).astype(np.float32))
    scores, messages = lsi(counts, 5)
    assert scores.shape == (200, 5)
    assert scores.dtype == np.float32
    assert "follow the depth" in messages[0]
    assert abs(np.corrcoef(scores[:, 0], group)[0, 1]) > 0.9
    total = np.log1p(np.asarray(counts.sum(1)).ravel())
    assert max(abs(np.corrcoef(scores[:, i], total)[0, 1]) for i in range(5)) < 0.75
    again, _ = lsi(counts, 5)
    np.testing.assert_array_equal(scores, again)


def test_tf_idf_of_two_cells():
    counts = sp.csr_matrix(np.array([[1, 1, 0], [0, 2, 2]], np.float32))
    expected = np.log1p(1e4 * np.array([[0.5 * 2, 0.5, 0], [0, 0.5, 0.5 * 2]]))
    np.testing.assert_allclose(tf_idf(counts).toarray(), expected, rtol=1e-5)


def test_components_are_the_same_in_any_pieces_and_without_empty_peaks(monkeypatch):
    rng = np.random.default_rng(1)
    counts = sp.csr_matrix(rng.poisson(0.3, (90, 60)).astype(np.float32))
    whole, _ = lsi(counts, 5)
    empty = sp.csr_matrix((90, 7), dtype=np.float32)
    with_empty = sp.hstack([empty, counts[:, :30], empty, counts[:, 30:]], format="csr", dtype=np.float32)
    monkeypatch.setattr("scmodal.lsi.BLOCK", 7)
    monkeypatch.setattr("scmodal.lsi._AT_A_TIME", 11)
    before = with_empty.copy()
    np.testing.assert_array_equal(lsi(with_empty, 5)[0], whole)
    for part in ("data", "indices", "indptr"):
        np.testing.assert_array_equal(getattr(with_empty, part), getattr(before, part))


# ---- genome builds -------------------------------------------------------------------------------------------------


def _genome(seed: int, n: int = 4000) -> pd.DataFrame:
    rng = np.random.default_rng(seed)
    tss = np.sort(rng.integers(0, 150_000_000, n))
    chrom = np.repeat(["chr1", "chr2"], n // 2).astype(object)
    return pd.DataFrame({"chrom": chrom, "start": tss, "end": tss + 5000, "strand": "+", "tss": tss})


def _some_peaks(genes: pd.DataFrame, seed: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """A third at starts of genes, the others anywhere."""
    rng = np.random.default_rng(seed)
    own = genes.iloc[rng.choice(len(genes), 3000, replace=False)]
    start = np.concatenate([own["tss"].to_numpy() - 250, rng.integers(0, 150_000_000, 6000)]).clip(0)
    chrom = np.concatenate([own["chrom"].to_numpy(), rng.choice(np.array(["chr1", "chr2"], object), 6000)])
    return chrom, start, start + 500


def test_genes_of_another_build_are_refused():
    genes = _genome(0)
    peaks = _some_peaks(genes, 1)
    _, messages = match_genome(*peaks, genes, "x", "peaks")
    assert "of the same genome build" in messages[-1]
    # The first tenth of each chromosome is where it was, as between two builds of one species.
    moved = genes.copy()
    moved.loc[moved.groupby("chrom").cumcount() > 200, ["start", "end", "tss"]] += 130_000
    with pytest.raises(InputError, match="not of the same genome build") as error:
        match_genome(*peaks, moved, "x", "peaks")
    assert "--no-check-build" in str(error.value)
    _, messages = match_genome(*peaks, moved, "x", "peaks", check=False)
    assert "not of the same genome build" in messages[-1]


def test_peaks_far_behind_the_last_gene_are_refused():
    genes = _genome(0, 400)
    chrom = np.array(["chr1"] * 12, object)
    start = np.arange(12) * 1_000_000 + genes.loc[genes["chrom"] == "chr1", "end"].max()
    with pytest.raises(InputError, match="behind the last gene"):
        match_genome(chrom, start, start + 500, genes, "x", "peaks")


def test_chromosomes_are_renamed_or_missed():
    genes = _genome(0)
    chrom, start, end = _some_peaks(genes, 1)
    bare = np.array([c[3:] for c in chrom], object)
    named, messages = match_genome(bare, start, end, genes, "x", "peaks")
    assert (named == chrom).all()
    assert "('1' is now 'chr1')" in messages[0]
    one = chrom == "chr1"
    chrom = np.where(np.arange(len(chrom)) == np.flatnonzero(one)[0], "KI270.1", chrom)
    _, messages = match_genome(chrom[one], start[one], end[one], genes, "x", "peaks")
    assert "1 contigs without genes" in " ".join(messages)
    assert "no peaks on 1 chromosomes of the genes file ('chr2')" in " ".join(messages)
    with pytest.raises(InputError, match="no chromosome of the peaks"):
        match_genome(np.full(3, "NC_1", object), start[:3], end[:3], genes, "x", "peaks")


def test_builds_are_told_by_the_ends_of_their_chromosomes():
    assert likely_build(np.array(["chr1", "chr19"], object), np.array([248_900_000, 58_600_000])) == "hg38"
    assert likely_build(np.array(["1", "19"], object), np.array([249_200_000, 59_100_000])) == "hg19"
    assert likely_build(np.array(["chr1"], object), np.array([1_000])) == ""
    assert likely_build(np.array(["chr2L"], object), np.array([1_000])) == ""


# ---- whole preparation ---------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def simulated(tmp_path_factory: pytest.TempPathFactory) -> Path:
    from scmodal.simulate_atac import simulate_atac, write_atac_simulation

    folder = tmp_path_factory.mktemp("sim")
    write_atac_simulation(simulate_atac(120, 100, 3, seed=1), folder)
    return folder


@pytest.fixture(scope="module")
def prepared(simulated: Path) -> ad.AnnData:
    return preprocess.preprocess_files(
        [simulated / "atac.h5ad"], "atac", "cell_type", atac_options=AtacOptions(simulated / "genes.bed", "toy1")
    )


def test_prepared_data_hold_activity_peaks_and_components(simulated, prepared):
    raw = ad.read_h5ad(simulated / "atac.h5ad")
    own = prepared.uns["scmodal"]
    assert own["genome"] == "toy1"
    assert own["gene_activity"] == {"upstream": 2000, "mode": "body"}
    assert list(own["peaks"]) == list(raw.var_names)
    assert sp.issparse(prepared.obsm["peaks"])
    assert (prepared.obsm["peaks"] != raw[prepared.obs_names].X).nnz == 0
    assert prepared.obsm["X_lsi"].shape[0] == prepared.n_obs
    assert prepared.obsm["X_lsi"].shape[1] <= 50
    # Peaks carry the gene that they follow, and those within 2 kb or the body are all of the gene's own.
    expected = raw.X @ np.array([[g == gene for gene in prepared.var_names] for g in raw.var["gene"]], float)
    np.testing.assert_array_equal(prepared.layers["counts"].toarray(), expected[raw.obs_names.isin(prepared.obs_names)])
    genes = read_genes(simulated / "genes.bed").set_index("gene").loc[prepared.var_names]
    for column in ("chrom", "start", "end", "strand"):
        assert list(prepared.var[column].astype(str)) == list(genes[column].astype(str))
    assert {"linked", "mean", "std", "highly_variable", "highly_variable_rank"} <= set(prepared.var)


def test_peaks_stay_with_their_cells_where_one_is_dropped(simulated, prepared):
    raw = ad.read_h5ad(simulated / "atac.h5ad")
    kept = np.ones(raw.n_obs, np.float32)
    kept[raw.obs_names.get_loc(prepared.obs_names[3])] = 0
    raw.X = raw.layers["counts"] = sp.csr_matrix(sp.diags(kept, dtype=np.float32) @ raw.X)
    adata = preprocess.atac(raw, AtacOptions(simulated / "genes.bed"))
    assert list(adata.obs_names) == [*prepared.obs_names[:3], *prepared.obs_names[4:]]
    assert (adata.obsm["peaks"] != raw[adata.obs_names].X).nnz == 0
    assert len(adata.obsm["X_lsi"]) == adata.n_obs


def test_prepared_data_survive_the_file(tmp_path, prepared):
    io.write_h5ad(prepared, tmp_path / "a.h5ad")
    again = io.read_prepared(tmp_path / "a.h5ad")
    assert (again.obsm["peaks"] != prepared.obsm["peaks"]).nnz == 0
    assert list(again.uns["scmodal"]["peaks"]) == list(prepared.uns["scmodal"]["peaks"])


@pytest.mark.parametrize("in_memory_gb", ["1", "1e-6"])
def test_peaks_are_left_in_the_file_on_demand(tmp_path, prepared, monkeypatch, in_memory_gb):
    monkeypatch.setenv(io.MEMORY_VARIABLE, in_memory_gb)
    io.write_h5ad(prepared, tmp_path / "a.h5ad")
    adata = io.read_prepared(tmp_path / "a.h5ad", peaks=False)
    assert list(adata.obsm) == ["X_lsi"]
    assert "peaks" not in adata.uns["scmodal"]
    assert adata.shape == prepared.shape
    assert (io.to_csr(adata.layers["counts"][:]) != prepared.layers["counts"]).nnz == 0


def test_peaks_need_genes(simulated):
    with pytest.raises(InputError, match=r"atac\.h5ad: holds peaks.*--genes"):
        preprocess.preprocess_files([simulated / "atac.h5ad"], "atac")


def test_samplesheet_says_that_genes_are_missing(simulated):
    sheet = simulated / "samplesheet.csv"
    assert [row.modality for row in read_samplesheet(sheet, genes=simulated / "genes.bed")] == ["rna", "atac"]
    with pytest.raises(InputError, match=r"row 2 .*--genes") as error:
        read_samplesheet(sheet, genes=False)
    assert len(error.value.problems) == 1
    with pytest.raises(InputError, match="not found"):
        read_samplesheet(sheet, genes=simulated / "none.bed")


def test_weighted_activity_and_no_common_chromosome(simulated, tmp_path):
    options = AtacOptions(simulated / "genes.bed", gene_activity="weighted")
    adata = preprocess.preprocess_files([simulated / "atac.h5ad"], "atac", atac_options=options)
    assert adata.uns["scmodal"]["gene_activity"]["mode"] == "weighted"
    values = adata.layers["counts"].data
    assert (values != np.rint(values)).any()
    (tmp_path / "other.bed").write_text("NC_000067.6\t1\t90000\tA\t+\n")
    with pytest.raises(InputError, match="no chromosome of the peaks"):
        preprocess.preprocess_files([simulated / "atac.h5ad"], "atac", atac_options=AtacOptions(tmp_path / "other.bed"))


def test_binarised_peaks_are_taken_and_told(simulated):
    raw = ad.read_h5ad(simulated / "atac.h5ad")
    raw.X = raw.layers["counts"] = (raw.X > 0).astype(np.float32)
    adata = preprocess.atac(raw, AtacOptions(simulated / "genes.bed"))
    assert "binarised" in " ".join(adata.uns["scmodal"]["messages"])


def test_gene_activity_is_taken_without_genes(simulated):
    rna = ad.read_h5ad(simulated / "rna.h5ad")
    rna.var = rna.var[[]]
    adata = preprocess.atac(rna)
    assert "peaks" not in adata.obsm
    assert "links of peaks and genes cannot be sought" in " ".join(adata.uns["scmodal"]["messages"])


def test_other_spelling_of_chromosomes_gives_the_same(simulated, prepared):
    raw = ad.read_h5ad(simulated / "atac.h5ad")
    raw.var_names = [name.removeprefix("chr").replace(":", "-") for name in raw.var_names]
    adata = preprocess.atac(raw, AtacOptions(simulated / "genes.bed"))
    assert list(adata.uns["scmodal"]["peaks"]) == list(prepared.uns["scmodal"]["peaks"])
    assert (adata.layers["counts"] != prepared.layers["counts"]).nnz == 0
    assert "were renamed as in the genes" in " ".join(adata.uns["scmodal"]["messages"])


def _same_activity(adata: ad.AnnData, other: ad.AnnData) -> None:
    shared = other.obs_names
    assert list(adata.var_names) == list(other.var_names)
    np.testing.assert_array_equal(adata[shared].layers["counts"].toarray(), other.layers["counts"].toarray())


def _tenx_h5(path: Path, rna: ad.AnnData, atac: ad.AnnData) -> None:
    matrix = sp.hstack([rna.X, atac.X], format="csr")
    ids = [*rna.var_names, *atac.var_names]
    types = ["Gene Expression"] * rna.n_vars + ["Peaks"] * atac.n_vars
    with h5py.File(path, "w") as file:
        group = file.create_group("matrix")
        group["data"], group["indices"], group["indptr"] = matrix.data.astype(int), matrix.indices, matrix.indptr
        group["shape"] = np.array(matrix.shape[::-1])
        group["barcodes"] = np.array(list(atac.obs_names), "S")
        features = group.create_group("features")
        features["id"] = features["name"] = np.array(ids, "S")
        features["feature_type"] = np.array(types, "S")


def _tenx_folder(path: Path, atac: ad.AnnData) -> None:
    from scipy.io import mmwrite

    path.mkdir()
    mmwrite(path / "matrix.mtx", atac.X.T.astype(int))
    (path / "barcodes.tsv").write_text("\n".join(atac.obs_names) + "\n")
    bed = [name.replace(":", "\t").replace("-", "\t") for name in atac.var_names]
    (path / "peaks.bed").write_text("\n".join(bed) + "\n")


def test_every_format_gives_the_same(simulated, prepared, tmp_path):
    import mudata

    rna, atac = ad.read_h5ad(simulated / "rna.h5ad"), ad.read_h5ad(simulated / "atac.h5ad")
    _tenx_h5(tmp_path / "multiome.h5", rna, atac)
    _tenx_folder(tmp_path / "peaks", atac)
    mudata.MuData({"rna": rna, "atac": atac}).write_h5mu(tmp_path / "both.h5mu")
    options = AtacOptions(simulated / "genes.bed")
    for name in ("multiome.h5", "peaks", "both.h5mu"):
        assert io.check_file(tmp_path / name, "atac") == []
        assert "--genes" in io.check_file(tmp_path / name, "atac", genes=False)[0]
        _same_activity(preprocess.preprocess_files([tmp_path / name], "atac", atac_options=options), prepared)


def test_batches_are_joined_on_their_peaks(simulated, prepared, tmp_path):
    raw = ad.read_h5ad(simulated / "atac.h5ad")
    first, second = raw[:60, :-5].copy(), raw[60:].copy()
    second.var_names = [name.replace(":", "_").replace("-", "_") for name in second.var_names]
    for name, part in (("a", first), ("b", second)):
        part.obs["donor"] = name
        part.write_h5ad(tmp_path / f"{name}.h5ad")
    options = AtacOptions(simulated / "genes.bed")
    joined = preprocess.preprocess_files(
        [tmp_path / "a.h5ad", tmp_path / "b.h5ad"], "atac", batch_key="donor", atac_options=options
    )
    assert joined.n_obs == prepared.n_obs
    assert joined.obsm["peaks"].shape[1] == prepared.obsm["peaks"].shape[1] - 5


def test_new_cells_are_peaks_or_prepared(simulated, prepared, tmp_path):
    io.write_h5ad(prepared, tmp_path / "p.h5ad")
    assert read_new_cells(tmp_path / "p.h5ad", "atac").n_vars == prepared.n_vars
    raw = read_new_cells(simulated / "atac.h5ad", "atac", AtacOptions(simulated / "genes.bed"))
    assert raw.n_vars == 100  # nothing is dropped
    np.testing.assert_array_equal(
        raw[prepared.obs_names, prepared.var_names].layers["counts"].toarray(), prepared.layers["counts"].toarray()
    )
    with pytest.raises(InputError, match="--genes"):
        read_new_cells(simulated / "atac.h5ad", "atac")


# ---- fragments -----------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def fragments(simulated: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A fragment for each count of each peak, lying in the middle of the peak."""
    raw = ad.read_h5ad(simulated / "atac.h5ad")
    counts = raw.X.tocoo()
    places = parse_peaks(raw.var, "x")
    lines = ["# id=x"]
    for cell, peak, n in zip(counts.row, counts.col, counts.data, strict=True):
        chrom, start, _ = places.iloc[peak]
        for i in range(int(n)):
            length = 100 if (cell + i) % 3 else 200
            lines.append(f"{chrom}\t{start + 100}\t{start + 100 + length}\tACGTACGTACGT{cell}-1\t1")
    path = tmp_path_factory.mktemp("fragments") / "fragments.tsv.gz"
    path.write_bytes(gzip.compress(("\n".join(lines) + "\n").encode()))
    (path.parent / "peaks.bed").write_text(
        "".join(f"{c}\t{s}\t{e}\n" for c, s, e in places.itertuples(index=False, name=None))
    )
    return path


def _options(simulated: Path, fragments: Path, **changes) -> AtacOptions:
    options = AtacOptions(simulated / "genes.bed", peaks=fragments.parent / "peaks.bed", min_fragments=10)
    return replace(options, **changes)


def test_fragments_give_the_counts_of_the_peaks(simulated, fragments):
    assert io.sniff(fragments) == "fragments"
    adata = read_atac(fragments, _options(simulated, fragments))
    raw = ad.read_h5ad(simulated / "atac.h5ad")
    cells = [int(name.removeprefix("ACGTACGTACGT").removesuffix("-1")) for name in adata.obs_names]
    expected = raw[cells, adata.var_names].X.toarray()
    np.testing.assert_array_equal(adata.X.toarray(), expected)
    np.testing.assert_array_equal(adata.obs["n_fragments"], expected.sum(1))
    lines = gzip.decompress(fragments.read_bytes()).decode().splitlines()[1:]
    lengths = pd.DataFrame([line.split("\t")[1:4] for line in lines], columns=["start", "end", "cell"])
    long = (
        (lengths["end"].astype(int) - lengths["start"].astype(int) == 200).groupby(lengths["cell"]).agg(["sum", "size"])
    )
    signal = (long["sum"] / np.maximum(long["size"] - long["sum"], 1)).loc[list(adata.obs_names)]
    np.testing.assert_allclose(adata.obs["nucleosome_signal"], signal, rtol=1e-6)


def test_tss_enrichment_of_ends_at_starts_and_anywhere(tmp_path):
    genes = _genome(0, 400)
    rng = np.random.default_rng(0)
    at_starts = genes["tss"].to_numpy()[rng.integers(0, 400, 4000)]
    anywhere = rng.integers(0, 150_000_000, 4000)
    frame = pd.DataFrame({"chrom": "chr1", "start": np.concatenate([at_starts, anywhere])})
    frame.loc[:3999, "chrom"] = genes["chrom"].to_numpy()[np.searchsorted(genes["tss"].sort_values(), at_starts) % 400]
    frame = frame.assign(end=frame["start"] + 40, cell=["A"] * 4000 + ["B"] * 4000)
    frame.to_csv(tmp_path / "f.tsv", sep="\t", header=False, index=False)
    adata = read_atac(tmp_path / "f.tsv", AtacOptions(genes, check_build=False))
    assert adata.obs.loc["A", "tss_enrichment"] > 20 * max(adata.obs.loc["B", "tss_enrichment"], 1)


def test_order_does_not_matter(simulated, fragments, tmp_path):
    lines = gzip.decompress(fragments.read_bytes()).decode().splitlines()[1:]
    np.random.default_rng(0).shuffle(lines)
    path = tmp_path / "unsorted.tsv"
    path.write_text("\n".join(lines) + "\n")
    first, second = (read_atac(p, _options(simulated, fragments)) for p in (fragments, path))
    assert (first.X != second.X).nnz == 0
    pd.testing.assert_frame_equal(first.obs, second.obs)


def test_pieces_do_not_matter(simulated, fragments, monkeypatch):
    whole = read_atac(fragments, _options(simulated, fragments))
    monkeypatch.setattr("scmodal.fragments._ROWS", 700)
    pieces = read_atac(fragments, _options(simulated, fragments))
    assert (whole.X != pieces.X).nnz == 0
    pd.testing.assert_frame_equal(whole.obs, pieces.obs)


def test_tiles_where_there_are_no_peaks(simulated, fragments):
    adata = read_atac(fragments, _options(simulated, fragments, peaks=None))
    assert "5,000 bp" in " ".join(adata.uns["scmodal"]["messages"])
    # Both ends in one tile are one fragment, in two tiles one in each.
    tiles = set()
    for number, line in enumerate(gzip.decompress(fragments.read_bytes()).decode().splitlines()[1:]):
        chrom, start, end, cell, _ = line.split("\t")
        tiles |= {
            (number, cell, f"{chrom}:{t * 5000}-{(t + 1) * 5000}") for t in (int(start) // 5000, (int(end) - 1) // 5000)
        }
    expected = pd.Series([(cell, tile) for _, cell, tile in tiles]).value_counts()
    found = {(adata.obs_names[i], adata.var_names[j]): n for i, j, n in zip(*sp.find(adata.X), strict=True)}
    assert found == expected.to_dict()


@pytest.mark.parametrize(
    ("style", "told"),
    [
        ("ACGTACGTACGT{}-1", "given cells were found."),
        ("ACGTACGTACGT{}", "without the number behind"),
        ("PBMC#ACGTACGTACGT{}-1", "without the name in front"),
        ("s1_ACGTACGTACGT{}", "without the names in front of and the numbers behind"),
    ],
)
def test_cells_are_found_whatever_is_around_their_barcode(simulated, fragments, tmp_path, style, told):
    path = tmp_path / "cells.tsv"
    path.write_text("cell\tlabel\n" + "".join(f"{style.format(i)}\tT{i % 2}\n" for i in range(20)))
    adata = read_atac(fragments, _options(simulated, fragments, cells=path))
    assert list(adata.obs_names) == [style.format(i) for i in range(20)]
    assert list(adata.obs["label"]) == [f"T{i % 2}" for i in range(20)]
    assert told in " ".join(adata.uns["scmodal"]["messages"])


def test_cells_that_are_not_there(simulated, fragments, tmp_path):
    path = tmp_path / "cells.txt"
    path.write_text("GGGGGGGGGGGGGG-1\n")
    with pytest.raises(InputError, match="none of its barcodes"):
        read_atac(fragments, _options(simulated, fragments, cells=path))
    with pytest.raises(InputError, match="no barcode has 9,999 fragments"):
        read_atac(fragments, _options(simulated, fragments, min_fragments=9999))
    with pytest.raises(InputError, match=r"fragments.*--genes"):
        read_atac(fragments, _options(simulated, fragments, genes=None))


def test_cells_of_an_h5ad(simulated, fragments, tmp_path):
    obs = pd.DataFrame({"kind": ["x", "y"]}, index=["ACGTACGTACGT3-1", "ACGTACGTACGT7-1"])
    ad.AnnData(np.zeros((2, 1), np.float32), obs=obs).write_h5ad(tmp_path / "cells.h5ad")
    adata = read_atac(fragments, _options(simulated, fragments, cells=tmp_path / "cells.h5ad"))
    assert list(adata.obs["kind"]) == ["x", "y"]


def test_cells_of_a_quoted_table(tmp_path):
    """As write.csv of R leaves them; a comma within quotes parts nothing."""
    path = tmp_path / "cells.csv"
    path.write_text('"","kind"\n"ACGTACGTACGT3-1","T, naive"\n"ACGTACGTACGT7-1","B"\n')
    cells = read_cells(path)
    assert list(cells.index) == ["ACGTACGTACGT3-1", "ACGTACGTACGT7-1"]
    assert list(cells["kind"]) == ["T, naive", "B"]


@pytest.mark.parametrize(
    ("line", "problem"),
    [
        ("chr1\t500\t400\tACGTACGTACGT1-1\t1", "ends before it starts"),
        ("chr1\t500\tx\tACGTACGTACGT1-1\t1", "has no chromosome, whole start"),
        ("chr1\t500", "has no chromosome, whole start"),
        ("chr1\t10.7\t200\tACGTACGTACGT1-1\t1", "has no chromosome, whole start"),
        ("\t100\t200\tACGTACGTACGT1-1\t1", "has no chromosome, whole start"),
    ],
)
def test_damaged_lines_are_refused(simulated, fragments, tmp_path, line, problem):
    text = gzip.decompress(fragments.read_bytes()).decode() + line
    path = tmp_path / "bad.tsv"
    path.write_text(text)
    with pytest.raises(InputError, match=problem):
        read_atac(path, _options(simulated, fragments))


def test_truncated_files_are_refused(simulated, fragments, tmp_path):
    path = tmp_path / "cut.tsv.gz"
    path.write_bytes(fragments.read_bytes()[:-2000])
    with pytest.raises(InputError, match="cut short"):
        read_atac(path, _options(simulated, fragments))
    # A bgzip file that ends with a whole block, but not with the last one.
    extra = b"\x06\x00BC\x02\x00\x00\x00"
    packed = gzip.compress(gzip.decompress(fragments.read_bytes()))
    block = packed[:3] + b"\x04" + packed[4:10] + extra + packed[10:]
    assert gzip.decompress(block)
    path.write_bytes(block)
    with pytest.raises(InputError, match="end mark"):
        read_atac(path, _options(simulated, fragments))


def test_fragments_are_of_one_modality_only(fragments):
    assert "modality 'atac', not 'rna'" in io.check_file(fragments, "rna")[0]


def test_genes_of_another_build_by_fragments(shared_data):
    """The published fragments of blood cells are on hg19: told, though hg38 agrees where a chromosome begins."""
    fragments = shared_data / "archr_pbmc_tiny" / "PBSmall.tsv.gz"
    adata = read_atac(fragments, AtacOptions(shared_data / "genes" / "hg19_genes.bed", min_fragments=100))
    assert adata.n_obs == 150
    assert adata.obs["tss_enrichment"].median() > 10
    with pytest.raises(InputError, match="the fragments look like hg19"):
        read_atac(fragments, AtacOptions(shared_data / "genes" / "hg38_genes.bed", min_fragments=100))


# ---- the command line ----------------------------------------------------------------------------------------------


def _no_fragment_of_these(folder: Path) -> list[str]:
    (folder / "cells.txt").write_text("GGGGGGGGGGGGGG-1\n")
    return ["--cells", str(folder / "cells.txt")]


def _cut(folder: Path) -> list[str]:
    path = folder / "fragments.tsv.gz"
    path.write_bytes(path.read_bytes()[:-2000])
    return []


def _turned_peaks(folder: Path) -> list[str]:
    (folder / "peaks.bed").write_text("chr1\t100\t900\nchr1\t900\t100\n")
    return ["--peaks", str(folder / "peaks.bed")]


def _nameless_genes(folder: Path) -> list[str]:
    (folder / "genes.gtf").write_text('chr1\tx\tgene\t11\t20\t.\t+\t.\tgene_id "ENSG1";\n')
    return ["--genes", str(folder / "genes.gtf")]


def _other_chromosomes(folder: Path) -> list[str]:
    (folder / "other.bed").write_text("NC_000067.6\t1\t90000\tA\t+\n")
    return ["--genes", str(folder / "other.bed")]


@pytest.mark.parametrize(
    ("spoil", "told"),
    [
        (_no_fragment_of_these, "none of its barcodes"),
        (_cut, "cut short"),
        (_turned_peaks, "900"),
        (_nameless_genes, "no gene has a gene_name"),
        (_other_chromosomes, "no chromosome of the fragments"),
    ],
)
def test_bad_fragments_and_genes_end_with_status_2(simulated, fragments, tmp_path, capsys, spoil, told):
    path = tmp_path / "fragments.tsv.gz"
    path.write_bytes(fragments.read_bytes())
    options = ["--genes", str(simulated / "genes.bed"), "--min-fragments", "10", *spoil(tmp_path)]
    output = tmp_path / "out.h5ad"
    with pytest.raises(SystemExit) as end:
        cli.main(["preprocess", "--input", str(path), "--modality", "atac", *options, "--output", str(output)])
    assert end.value.code == 2
    assert told in capsys.readouterr().err
    assert not output.exists()
