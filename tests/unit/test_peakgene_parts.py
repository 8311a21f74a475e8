"""The parts of the search for peak-gene links, each against a plain evaluation."""

from __future__ import annotations

import gzip

import numpy as np
import pandas as pd
import pytest
import scipy.sparse as sp
from scipy.stats import spearmanr

from scmodal.contracts import DataError, InputError
from scmodal.peakgene.aggregate import accessibility, cell_chunks, cells_open, unit_means
from scmodal.peakgene.background import _left_out, false_discovery_rates, four_digits, p_values, sample_background
from scmodal.peakgene.correlation import pair_correlations, ranks, standardise
from scmodal.peakgene.formats import (
    COLUMNS,
    bedpe,
    colour,
    interact,
    link_table,
    read_table,
    write_bedpe,
    write_interact,
    write_table,
)
from scmodal.peakgene.link import LinkSettings, check_chromosomes
from scmodal.peakgene.locus import locus_columns
from scmodal.peakgene.pairs import pairs_within, parse_peaks, same_names
from scmodal.peakgene.sequence import gc_content
from scmodal.peakgene.units import choose_units, fitting_size


@pytest.fixture
def rng():
    return np.random.default_rng(0)


# ---- units


def test_units_are_neighbourhoods_that_overlap_no_more_than_allowed(rng):
    z = rng.normal(size=(400, 5))
    units = choose_units(z, n_units=60, size=20, max_overlap=0.3, seed=1)
    assert (units.sum(axis=1) == 20).all()
    shared = (units @ units.T).toarray()
    np.fill_diagonal(shared, 0)
    assert 0 < shared.max() <= 6
    # every unit is some cell's 20 nearest cells
    distance = np.linalg.norm(z[:, None] - z, axis=2)
    whole = {tuple(np.sort(np.argsort(row)[:20])) for row in distance}
    assert all(tuple(np.sort(row.indices)) in whole for row in units)
    again = choose_units(z, n_units=60, size=20, max_overlap=0.3, seed=1)
    assert (units != again).nnz == 0


def test_disjoint_units_and_equal_ones(rng):
    z = rng.normal(size=(300, 3))
    assert choose_units(z, 20, 10, 0.0).sum(axis=0).max() == 1
    nearly = choose_units(z, 250, 10, 1.0)
    assert len({tuple(row.indices) for row in nearly}) == nearly.shape[0] > 150


def test_few_cells_get_small_units_and_too_few_are_refused(rng):
    assert fitting_size(5000, 50) == 50
    assert fitting_size(150, 50) == 15
    assert fitting_size(30, 50) == 5
    assert choose_units(rng.normal(size=(150, 3)), 100, 50, 0.5)[0].nnz == 15
    with pytest.raises(DataError, match="8 cells are too few"):
        choose_units(rng.normal(size=(8, 3)))
    with pytest.raises(DataError, match="smaller --unit-size"):
        choose_units(rng.normal(size=(60, 3)), 100, 50, 0.0)


# ---- aggregation


def test_accessibility_is_summed_normalised_and_logged(rng):
    counts = sp.csr_matrix(rng.poisson(0.3, size=(90, 40)).astype(np.float32))
    units = choose_units(rng.normal(size=(90, 2)), 50, 9, 0.5)
    found = accessibility(units, counts)
    summed = units.toarray() @ counts.toarray()
    total = summed.sum(axis=1)
    np.testing.assert_allclose(found, np.log1p(summed * (np.median(total) / total)[:, None]).T, rtol=1e-5)
    assert found.dtype == np.float32
    values = rng.normal(size=(90, 7)).astype(np.float32)
    for given in (values, sp.csr_matrix(values)):
        np.testing.assert_allclose(unit_means(units, given), (units.toarray() @ values / 9).T, rtol=1e-4, atol=1e-6)


def test_cells_that_a_peak_is_open_in_count_once(rng):
    counts = sp.random(50, 30, 0.2, "csr", random_state=1, data_rvs=lambda n: rng.integers(0, 4, n).astype(np.float32))
    assert (counts.data == 0).any()
    units = sp.csr_matrix((rng.random((12, 50)) < 0.1).astype(np.float32))
    there = units.toarray().any(axis=0)
    assert 0 < there.sum() < 50
    np.testing.assert_array_equal(cells_open(units, counts), (counts.toarray()[there] > 0).sum(axis=0))


def test_chunks_of_cells_cover_every_unit(rng):
    units = choose_units(rng.normal(size=(200, 2)), 12, 9, 0.0)
    total = np.zeros((12, 1))
    cells = []
    for part, own in cell_chunks(units, 25):
        cells += list(part)
        total += own.sum(axis=1)
    assert (total == 9).all()
    assert cells == sorted(set(units.indices))


# ---- pairs


def test_peak_names_in_the_usual_spellings():
    frame = parse_peaks(["chr1:5-10", "chr1-5-10", "chr1_5_10", "GL000009.2:1-3", "HLA-A*01:2-9"])
    assert list(frame["chrom"]) == ["chr1", "chr1", "chr1", "GL000009.2", "HLA-A*01"]
    assert list(frame["middle"]) == [7, 7, 7, 2, 5]
    with pytest.raises(InputError, match="2 peak names are no places \\('peak1', 'chr1:a-b'\\)"):
        parse_peaks(["peak1", "chr1:1-2", "chr1:a-b"])
    with pytest.raises(InputError, match="1 peaks do not end after their start \\('chr1:9-3'\\)"):
        parse_peaks(["chr1:9-3", "chr1:1-2"])


def test_pairs_are_those_within_the_window(rng):
    genes = pd.DataFrame(
        {
            "chrom": rng.choice(["chr1", "chr2", "chr9"], 30),
            "tss": rng.integers(0, 100_000, 30),
            "strand": rng.choice(["+", "-"], 30),
        }
    )
    start = rng.integers(0, 100_000, 80)
    peaks = pd.DataFrame({"chrom": rng.choice(["chr1", "chr2"], 80), "start": start, "end": start + 300})
    peaks["middle"] = peaks["start"] + 150
    found = pairs_within(genes, peaks, 5_000)
    expected = {
        (i, j): (peaks["middle"][j] - genes["tss"][i]) * (1 if genes["strand"][i] == "+" else -1)
        for i in range(30)
        for j in range(80)
        if genes["chrom"][i] == peaks["chrom"][j] and abs(peaks["middle"][j] - genes["tss"][i]) <= 5_000
    }
    assert len(expected) > 50
    assert {(i, j): d for i, j, d in found.itertuples(index=False)} == expected
    assert found["gene"].is_monotonic_increasing
    assert len(pairs_within(genes.assign(chrom="chrX"), peaks, 5_000)) == 0


def test_a_missing_chr_is_mended_and_another_species_is_not():
    assert list(same_names(pd.Series(["1", "X"]), ["chr1", "chr2"])[0]) == ["chr1", "chrX"]
    assert list(same_names(pd.Series(["chr1", "chrX"]), ["1"])[0]) == ["1", "X"]
    assert same_names(pd.Series(["chr1"]), ["chr1"])[1] is False
    assert same_names(pd.Series(["2L"]), ["chr1"])[1] is False


# ---- correlation


def test_pair_correlations_are_pearsons_and_spearmans(rng):
    a, b = rng.normal(size=(6, 50)), rng.poisson(1.0, size=(8, 50)).astype(float)
    in_a, in_b = rng.integers(6, size=40), rng.integers(8, size=40)
    r = pair_correlations(standardise(a)[0], standardise(b)[0], in_a, in_b)
    rho = pair_correlations(ranks(a), ranks(b), in_a, in_b)
    np.testing.assert_allclose(r, [np.corrcoef(a[i], b[j])[0, 1] for i, j in zip(in_a, in_b)], atol=1e-5)
    np.testing.assert_allclose(rho, [spearmanr(a[i], b[j]).statistic for i, j in zip(in_a, in_b)], atol=1e-5)


def test_constant_rows_are_known_as_such():
    rows, varies = standardise(np.array([[1.0, 2, 3], [0.1, 0.1, 0.1], [0, 0, 0], [1e-4, 2e-4, 1e-4]]))
    assert list(varies) == [True, False, False, True]
    assert (rows[1] == 0).all()
    np.testing.assert_allclose(np.linalg.norm(rows[[0, 3]], axis=1), 1, rtol=1e-6)


# ---- background


def test_bins_hold_alike_peaks_and_no_other_chromosome(rng):
    level, gc = rng.gamma(2.0, 1.0, 3000), rng.uniform(0.3, 0.7, 3000)
    candidates = np.arange(1000, 3000)
    found = sample_background(candidates, level, gc, 20, rng)
    assert found.peaks.min() >= 1000
    assert found.peaks.shape == (100, 20)
    own = found.bins(level[found.peaks.ravel()], gc[found.peaks.ravel()])
    assert (own.reshape(found.peaks.shape) == np.arange(100)[:, None]).all()
    # a tested peak lies between the least and the greatest of its bin, apart from the ends of the range
    tested = np.arange(1000)
    bins = found.bins(level[tested], gc[tested])
    inner = (bins >= 4) & (bins < 96)
    spread = level[found.peaks].max(axis=1) - level[found.peaks].min(axis=1)
    away = np.abs(level[tested] - level[found.peaks].mean(axis=1)[bins])
    assert (away[inner] < 2 * spread[bins[inner]] + 0.05).all()
    plain = sample_background(candidates, level, None, 50, rng)
    assert plain.peaks.shape == (25, 50)
    assert set(plain.bins(level[tested], None)) == set(range(25))
    with pytest.raises(DataError, match=r"only 5 peaks .* on other chromosomes .* smaller --min-cells"):
        sample_background(np.arange(5), level, None, 20, rng)


def test_scores_of_background_peaks_leave_themselves_out(rng):
    scores = rng.normal(size=(3, 2, 15))
    mean, deviation = scores.mean(axis=2, keepdims=True), scores.std(axis=2, ddof=1, keepdims=True)
    found = _left_out(scores, mean, deviation, 15)
    for i in range(3):
        for b in range(2):
            for k in range(15):
                others = np.delete(scores[i, b], k)
                assert found[i, b, k] == pytest.approx((scores[i, b, k] - others.mean()) / others.std(ddof=1), rel=1e-4)


def test_p_is_twice_the_smaller_tail_and_never_zero(rng):
    null = np.arange(-49, 51).astype(np.float32)
    p = p_values(np.array([50, 1000, -1000, 0, 40]), null)
    np.testing.assert_allclose(p, [2 * 2 / 101, 2 / 101, 2 / 101, 1.0, 2 * 12 / 101], rtol=1e-6)
    skewed = rng.gamma(1.0, size=20_000).astype(np.float32)
    fresh = p_values(rng.gamma(1.0, size=5_000), skewed)
    assert abs((fresh < 0.05).mean() - 0.05) < 4 * np.sqrt(0.05 * 0.95 / 5_000)
    assert len(false_discovery_rates(np.zeros(0))) == 0
    np.testing.assert_allclose(
        false_discovery_rates(np.array([0.01, 0.04, 0.03, 0.5])), [0.04, 0.16 / 3, 0.16 / 3, 0.5]
    )


def test_settings_tell_every_number_that_is_out_of_range():
    with pytest.raises(InputError) as error:
        LinkSettings(window=0, n_units=3, fdr=1.5, background=2)
    assert len(error.value.problems) == 4


def test_one_chromosome_and_none_in_common():
    genes = pd.DataFrame({"chrom": ["chr1", "chr2"]})
    with pytest.raises(DataError, match="all peaks are on one chromosome \\(chr1\\)"):
        check_chromosomes(genes, pd.DataFrame({"chrom": ["chr1", "chr1"]}), "genes.bed")
    with pytest.raises(InputError, match=r"genes\.bed: its chromosomes \('chr1', 'chr2'\) are none of the peaks'"):
        check_chromosomes(genes, pd.DataFrame({"chrom": ["2L", "3R"]}), "genes.bed")


# ---- leave the locus out


def test_columns_of_a_locus_are_those_whose_region_meets_the_window():
    genes = pd.DataFrame({"chrom": ["chr1", "chr2"], "tss": [10_000, 10_000]})
    columns = pd.DataFrame(
        {
            "chrom": ["chr1", "chr1", "chr1", "chr1", "", "chr2"],
            "start": [9_000, 0, 16_000, 16_000, 9_000, 90_000],
            "end": [11_000, 4_500, 20_000, 20_000, 11_000, 99_000],
            "strand": ["+", "-", "+", "-", "+", "+"],
        }
    )
    # upstream of 2,000: a + gene reaches to the left, a - gene to the right
    mask = locus_columns(genes, columns, 5_000, 2_000)
    assert list(mask[0].indices) == [0, 1, 2]
    assert mask[1].nnz == 0
    assert list(locus_columns(genes, columns, 5_000, 0)[0].indices) == [0]
    assert list(locus_columns(genes, columns, 5_000, 0, 1_500)[0].indices) == [0, 1, 2, 3]


# ---- sequence


def test_gc_of_peaks(tmp_path):
    text = ">chr1 the first\nGGCC\nAATT\nNNNN\n>2\n" + "G" * 30 + "\n>other\nACGT\n"
    peaks = pd.DataFrame({"chrom": ["chr1", "chr1", "chr1", "chr2", "chr7"], "start": [0, 2, 8, 5, 0]})
    peaks["end"] = [4, 10, 12, 9, 4]
    (tmp_path / "plain.fa").write_text(text)
    with gzip.open(tmp_path / "packed.fa.gz", "wt") as file:
        file.write(text.lower().replace("chr1 the", "chr1\tthe"))
    for name in ("plain.fa", "packed.fa.gz"):
        # the third has no known base and the last no contig: they get the median
        np.testing.assert_allclose(gc_content(tmp_path / name, peaks), [1, 2 / 6, 1, 1, 1])


def test_a_genome_of_another_build_and_no_genome(tmp_path):
    (tmp_path / "short.fa").write_text(">chr1\nACGT\n")
    peaks = pd.DataFrame({"chrom": ["chr1"], "start": [2], "end": [9]})
    with pytest.raises(InputError, match="chr1 has 4 bases, but a peak there ends at 9"):
        gc_content(tmp_path / "short.fa", peaks)
    with pytest.raises(InputError, match="none of the peaks' chromosomes \\('2L'\\) is in it"):
        gc_content(tmp_path / "short.fa", peaks.assign(chrom="2L"))
    (tmp_path / "table.txt").write_text("chrom start\n")
    with pytest.raises(InputError, match="not a FASTA file"):
        gc_content(tmp_path / "table.txt", peaks)
    with pytest.raises(InputError, match="cannot be read as FASTA"):
        gc_content(tmp_path / "nothing.fa", peaks)


# ---- files


@pytest.fixture
def table():
    genes = pd.DataFrame({"gene": ["A B", "C"], "gene_id": ["ID1", ""], "tss": [1_000, 5_000], "strand": ["+", "-"]})
    peaks = parse_peaks(["chr1:100-600", "chr1:4900-5400"])
    links = pd.DataFrame(
        {
            "gene": [0, 1],
            "peak": [0, 1],
            "distance": [-650, -150],
            "r": [0.81234, -1.0],
            "z": [5.0, -3.0],
            "p": [1.23456e-7, 0.5],
            "fdr": [2.5e-6, 0.5],
            "n_units": 40,
            "group": ["all", "B cells"],
            "spearman": [0.7, np.nan],
        }
    )
    return link_table(links, genes, peaks)


def test_the_table_is_read_as_it_was_written(table, tmp_path):
    write_table(table, tmp_path / "peak_gene.tsv.gz")
    header = gzip.decompress((tmp_path / "peak_gene.tsv.gz").read_bytes()).decode().splitlines()[0].split("\t")
    assert " ".join(header[:15]) == ("chrom start end peak gene_id gene tss strand distance r z p fdr n_units group")
    assert header == [*COLUMNS, "spearman"]
    again = read_table(tmp_path / "peak_gene.tsv.gz")
    assert list(again["gene_id"]) == ["ID1", ""]
    assert list(again["r"]) == [0.8123, -1.0]
    assert again["p"][0] == pytest.approx(1.235e-7)
    assert np.isnan(again["spearman"][1])


def test_bedpe_and_interact_are_valid(table, tmp_path):
    write_bedpe(table, tmp_path / "links.bedpe")
    lines = (tmp_path / "links.bedpe").read_text().splitlines()
    assert lines[0].startswith("#chrom1\tstart1")
    assert " ".join(lines[1].split("\t")[:10]) == "chr1 100 600 chr1 1000 1001 A_B|chr1:100-600 812 . +"
    assert (bedpe(table)["score"] <= 1000).all()

    write_interact(table, tmp_path / "links.interact", 0.05)
    lines = (tmp_path / "links.interact").read_text().splitlines()
    assert lines[0].startswith('track type=interact name="')
    assert lines[0].count('"') == 4
    assert "FDR 0.05" in lines[0]
    frame = interact(table)
    assert list(frame) == lines[1].lstrip("#").split("\t")
    assert len(frame.columns) == 18
    for row in frame.itertuples():
        assert row.chromStart == min(row.sourceStart, row.targetStart)
        assert row.chromEnd == max(row.sourceEnd, row.targetEnd)
        assert 0 <= row.score <= 1000
        assert all(0 <= int(part) <= 255 for part in row.color.split(","))
    assert frame["exp"][1] == "B_cells"
    assert all(len(line.split("\t")) == 18 for line in lines[2:])
    assert not any(" " in line for line in lines[2:])


def test_colours_tell_sign_and_strength():
    red, blue = ([int(c) for c in colour(r).split(",")] for r in (0.9, -0.9))
    assert red[0] > red[2]
    assert blue[2] > blue[0]
    assert sum(int(c) for c in colour(0.1).split(",")) > sum(red)


def test_rates_are_those_that_the_table_shows():
    values = np.concatenate([np.random.default_rng(0).random(500) ** 4, [0.0, 1.0, 0.500004, 0.04999951, 0.05]])
    np.testing.assert_array_equal(four_digits(values), [float(f"{value:.4g}") for value in values])
