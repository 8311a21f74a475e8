"""Tables of genes: formats, positions, repeated symbols, and what is refused."""

from __future__ import annotations

import gzip
from pathlib import Path

import pytest

from scmodal.contracts import InputError
from scmodal.genes import is_main_chromosome, read_genes


def _write(path: Path, text: str) -> Path:
    if path.suffix == ".gz":
        path.write_bytes(gzip.compress(text.encode()))
    else:
        path.write_text(text)
    return path


def _row(frame, gene):
    found = frame[frame["gene"] == gene]
    assert len(found) == 1
    return found.iloc[0]


def test_bed_without_and_with_a_score(tmp_path):
    five = read_genes(_write(tmp_path / "a.bed", "chr2\t10\t20\tB\t-\nchr1\t5\t9\tA\t+\n"))
    six = read_genes(_write(tmp_path / "b.bed", "track name=x\nchr2\t10\t20\tB\t0\t-\nchr1\t5\t9\tA\t0\t+\n"))
    assert five.equals(six)
    assert list(five.columns) == ["chrom", "start", "end", "gene", "gene_id", "strand", "tss"]
    assert list(five["gene"]) == ["A", "B"]  # sorted by place
    assert list(five["tss"]) == [5, 19]  # the first transcribed base, counted from 0
    assert five.attrs["messages"] == []


def test_bed_with_header_gzipped_and_crlf(tmp_path):
    frame = read_genes(_write(tmp_path / "a.bed.gz", "chrom\tstart\tend\tname\tstrand\r\nchr1\t5\t9\tA\t+\r\n"))
    assert frame.loc[0, "strand"] == "+"


GTF = (
    "#!genome-build x\n"
    'chr1\tHAVANA\tgene\t101\t200\t.\t-\t.\tgene_id "ENSG1.1"; gene_type "protein_coding"; gene_name "A";\n'
    'chr1\tHAVANA\ttranscript\t101\t180\t.\t-\t.\tgene_id "ENSG1.1"; transcript_id "T"; gene_name "A";\n'
    'chr1\tHAVANA\tgene\t301\t400\t.\t+\t.\tgene_id "ENSG2.1"; note "has; a semicolon"; gene_name "B";\n'
)


def test_gtf(tmp_path):
    frame = read_genes(_write(tmp_path / "a.gtf.gz", GTF))
    a, b = _row(frame, "A"), _row(frame, "B")
    assert (a["start"], a["end"], a["tss"], a["gene_id"], a["strand"]) == (100, 200, 199, "ENSG1.1", "-")
    assert (b["start"], b["end"], b["tss"], b["gene_id"]) == (300, 400, 300, "ENSG2.1")


def test_gtf_without_gene_lines_takes_the_span_of_transcripts(tmp_path):
    text = "".join(
        f'chr1\tx\t{kind}\t{start}\t{end}\t.\t+\t.\tgene_id "G"; gene_name "A";\n'
        for kind, start, end in (("exon", 1, 900), ("transcript", 101, 200), ("transcript", 151, 300))
    )
    frame = read_genes(_write(tmp_path / "a.gtf", text))
    assert (frame.loc[0, "start"], frame.loc[0, "end"]) == (100, 300)
    assert "span of its transcripts" in " ".join(frame.attrs["messages"])


def test_gff3(tmp_path):
    text = "##gff-version 3\nchr1\tx\tgene\t11\t20\t.\t+\t.\tID=gene:ENSG1;Name=A;biotype=x\n"
    row = read_genes(_write(tmp_path / "a.gff3", text)).iloc[0]
    assert (row["gene"], row["gene_id"], row["start"]) == ("A", "ENSG1", 10)


def test_gtf_without_gene_name(tmp_path):
    text = 'chr1\tx\tgene\t11\t20\t.\t+\t.\tgene_id "ENSG1";\n'
    with pytest.raises(InputError, match="no gene has a gene_name"):
        read_genes(_write(tmp_path / "a.gtf", text))
    some_named = read_genes(_write(tmp_path / "b.gtf", text + GTF))
    assert _row(some_named, "ENSG1")["gene_id"] == "ENSG1"
    assert "1 genes" in " ".join(some_named.attrs["messages"])


def test_gene_on_several_contigs_keeps_the_main_chromosome(tmp_path):
    text = "chr6_GL000255v2_alt\t1\t900\tA\t+\nchr6\t50\t60\tA\t+\nchrUn_KI1\t7\t9\tB\t+\n"
    frame = read_genes(_write(tmp_path / "a.bed", text))
    assert _row(frame, "A")["chrom"] == "chr6"
    assert _row(frame, "B")["chrom"] == "chrUn_KI1"  # nowhere else: kept
    assert "1 genes" in frame.attrs["messages"][0]
    assert "main chromosome" in frame.attrs["messages"][0]


def test_repeated_symbols_are_merged_or_the_longest(tmp_path):
    text = (
        "chr1\t10\t20\tA\t+\nchr1\t15\t40\tA\t+\n"  # overlapping: one gene
        "chr1\t100\t120\tB\t+\nchr1\t500\t600\tB\t+\n"  # apart: the longer
        "chrY\t10\t20\tC\t+\nchrX\t10\t20\tC\t+\n"  # as long: X
    )
    frame = read_genes(_write(tmp_path / "a.bed", text))
    assert list(_row(frame, "A")[["start", "end"]]) == [10, 40]
    assert list(_row(frame, "B")[["start", "end"]]) == [500, 600]
    assert _row(frame, "C")["chrom"] == "chrX"
    assert "3 symbols" in frame.attrs["messages"][-1]
    assert "of 2 genes in places apart" in frame.attrs["messages"][-1]
    assert frame["gene"].is_unique


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("", "no genes"),
        ("# only a comment\n", "no genes"),
        ("chr1\t20\t10\tA\t+\n", "line 1 .*end is before the start"),
        ("chr1\t20\t20\tA\t+\n", "no length"),
        ("chr1\t-5\t20\tA\t+\n", "whole numbers"),
        ("chr1\tx\t20\tA\t+\n", "whole numbers"),
        ("chr1\t10\t20\tA\n", "4 columns"),
        ("chr1\t10\t20\n", "3 columns"),
        ("gene,length\nA,3\n", "columns"),
        ("chr1\t10\t20\tA\t.\n", "strand must be"),
        ("chr1\t10\t20\tA\t+\nchr1\t10\t20\n", "line 2: there are fewer columns"),
        ("chr1\t10\t20\t\t+\n", "symbol is missing"),
        ('chr1\tx\tgene\t20\t11\t.\t+\t.\tgene_name "A";\n', "end is before the start"),
        ('chr1\tx\tgene\t0\t11\t.\t+\t.\tgene_name "A";\n', "count from 1"),
        ('chr1\tx\tCDS\t5\t11\t.\t+\t.\tgene_name "A";\n', "without gene, transcript or exon lines"),
    ],
)
def test_refused(tmp_path, text, problem):
    with pytest.raises(InputError, match=problem):
        read_genes(_write(tmp_path / "a.bed", text))


def test_every_flaw_at_once_and_only_the_first_lines(tmp_path):
    text = "chr1\t20\t10\tA\t+\n" * 9 + "chr1\t2\t10\tB\t?\nchr1\t1\t10\tC\t+\n"
    text = "chr1\t1\t10\tC\t+\n" + text
    with pytest.raises(InputError) as error:
        read_genes(_write(tmp_path / "a.bed", text))
    assert len(error.value.problems) == 2
    assert "and 4 lines more" in error.value.problems[0]
    assert "line 11" in error.value.problems[1]


def test_unreadable_files(tmp_path):
    with pytest.raises(InputError, match="not found"):
        read_genes(tmp_path / "none.bed")
    with pytest.raises(InputError, match="folder"):
        read_genes(tmp_path)
    cut = tmp_path / "cut.bed.gz"
    cut.write_bytes(gzip.compress("".join(f"chr1\t{i}\t{i * 7 + 9}\tG{i}\t+\n" for i in range(9000)).encode())[:-3000])
    with pytest.raises(InputError, match=r"cut\.bed\.gz"):
        read_genes(cut)
    binary = tmp_path / "a.bed"
    binary.write_bytes(bytes(range(128, 256)) * 10)
    with pytest.raises(InputError, match=r"a\.bed"):
        read_genes(binary)


def test_main_chromosomes():
    assert all(map(is_main_chromosome, ["chr1", "X", "chrMT", "2L", "IV"]))
    assert not any(map(is_main_chromosome, ["chr1_KI270706v1_random", "chrUn_x", "GL000194.1", "KI270728.1"]))


def test_genes_longer_than_any_are_left_out(tmp_path):
    frame = read_genes(_write(tmp_path / "a.bed", "chr1\t1\t9000000\tDUX4\t+\nchr1\t10\t20\tB\t-\n"))
    assert list(frame["gene"]) == ["B"]
    assert "longer than 5,000,000 bp" in frame.attrs["messages"][0]
    with pytest.raises(InputError, match="every gene is longer"):
        read_genes(_write(tmp_path / "b.bed", "chr1\t1\t9000000\tDUX4\t+\n"))
