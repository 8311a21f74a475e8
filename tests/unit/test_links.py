"""Names of antigens, the antigen table, links and their coverage."""

from __future__ import annotations

import csv
import json
import re
import subprocess
import sys
import time
from collections.abc import Sequence
from importlib import resources
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from anndata import AnnData
from hypothesis import given, settings
from hypothesis import strategies as st

from scmodal.antigens import ISOTYPE, antigen_genes, guess_species, known_genes, normalise_antigen, spelling_key
from scmodal.contracts import InputError
from scmodal.coverage import COVERAGE_COLUMNS, coverage_summary, coverage_text
from scmodal.link_table import COLUMNS, LinkTable
from scmodal.links import build_links


def read_antigens() -> list[dict[str, str]]:
    text = resources.files("scmodal").joinpath("data", "antigens.tsv").read_text(encoding="utf-8")
    return list(csv.DictReader(text.splitlines(), delimiter="\t", quoting=csv.QUOTE_NONE))


ANTIGENS = read_antigens()
NAMES = [row["antigen"] for row in ANTIGENS]
SPELLINGS = [(s, row["antigen"]) for row in ANTIGENS for s in [row["antigen"], *row["aliases"].split(";")] if s]

PREFIXES = [
    "ADT_", "adt-", "prot_", "anti-", "anti-human ", "anti-mouse/human ", "Hu.", "HuMs.", "HuMsRt.", "A0034_",
    "141Pr_", "Er168Di_", "Cd112Di_", "X141Pr_", "89Y_",
]  # fmt: skip
SUFFIXES = [
    "_TotalSeqB", "-TotalSeqC", "_TotalSeqA", " TotalSeq-B", "_TotalC", "_A0034", "-A0034", "_ADT",
    "(Nd142)Di", "_Nd142Di", " (RPA-T4)", "_(UCHT1)", "_human", "-CTCATTGTAACTCCT",
]  # fmt: skip
BLIND = [s for s in SUFFIXES if s not in (" (RPA-T4)", "_(UCHT1)")]
"""Taken off names that are not in the table, too."""
CLONES = ["_UCHT1", "-UCHT1", "-RPA-T4", "_145-2C11", "_M1/70"]
NUMBERS = [".1", ".2", "-1", "_1"]


def data(modality: str, names: Sequence[str], **columns: Sequence[str]) -> AnnData:
    adata = AnnData(np.ones((2, len(names)), dtype=np.float32), var=pd.DataFrame(columns, index=list(names)))
    adata.uns["scmodal"] = {"modality": modality}
    return adata


def pairs(table: LinkTable) -> set[tuple[str, str]]:
    return set(zip(table.frame["feature_a"], table.frame["feature_b"], strict=True))


def row_of(coverage: pd.DataFrame, feature: str, modality: str = "protein") -> pd.Series:
    rows = coverage[(coverage["modality"] == modality) & (coverage["feature"] == feature)]
    assert len(rows) == 1
    return rows.iloc[0]


# ------------------------------------------------------------------------------------------------- the table itself


def test_table_size_and_form() -> None:
    assert len(ANTIGENS) >= 400
    assert len(set(NAMES)) == len(NAMES)
    assert list(ANTIGENS[0]) == ["antigen", "aliases", "human", "mouse", "note"]
    assert sum(bool(row["human"]) for row in ANTIGENS) >= 400
    assert sum(bool(row["mouse"]) for row in ANTIGENS) >= 400
    for row in ANTIGENS:
        assert row["human"] or row["mouse"] or row["note"], f"{row['antigen']}: no gene and no reason"
        for column in row.values():
            assert column == column.strip()
            assert ";;" not in column
            assert not column.startswith(";")
            assert not column.endswith(";")


def test_every_cd_is_there() -> None:
    """Every number of the HLDA workshops, but for those withdrawn, reserved, or merged into another."""
    letters = {1, 11, 42, 49, 60, 62, 66, 79, 85, 107, 120, 121, 140, 156, 159, 167, 172, 179, 202, 203, 213, 218, 235}
    letters |= {175, 240, 300, 307}
    unused = {12, 67, 76, 78, 128, 139, 145, 149, 165, 187, 188, 189, 190, 211, 214, 216, 219, 237, 250, 251, 259, 260}
    unused |= {285, 287, 291, 311, 313, 330, 341, 342, 343, 345, 346, 347, 348, 356, 359}
    numbers = {int(found[1]) for name in NAMES if (found := re.match(r"CD(\d+)", name))}
    assert set(range(1, 372)) - numbers == unused
    plain = {n for n in numbers if f"CD{n}" in NAMES}
    assert numbers - plain == letters - {79}


def test_each_spelling_belongs_to_one_antigen() -> None:
    owner: dict[str, str] = {}
    for spelling, name in SPELLINGS:
        assert owner.setdefault(spelling_key(spelling), name) == name, spelling


def test_gene_symbols_look_like_those_of_their_species() -> None:
    for row in ANTIGENS:
        for symbol in filter(None, row["human"].replace("/", ";").split(";")):
            assert symbol == symbol.upper() or "orf" in symbol, (row["antigen"], symbol)
        for symbol in filter(None, row["mouse"].replace("/", ";").split(";")):
            assert symbol != symbol.upper() or symbol == "F3" or symbol.startswith("H2-"), (row["antigen"], symbol)


def test_gene_symbols_exist(shared_data: Path) -> None:
    """Against gene annotations; those hold no immunoglobulin and T-cell receptor segments."""
    for column, files in (("human", ["hg38_genes.bed", "hg19_genes.bed"]), ("mouse", ["mm10_genes.bed"])):
        annotated = {
            line.split("\t")[3].strip() for f in files for line in (shared_data / "genes" / f).read_text().splitlines()
        }
        for row in ANTIGENS:
            for gene in filter(None, row[column].split(";")):
                if not gene.upper().startswith(("TRA", "TRB", "TRG", "TRD", "TCRG", "IGH", "IGK", "IGL")):
                    assert annotated & set(gene.split("/")), (row["antigen"], gene)


def test_loading_is_quick_and_imports_little() -> None:
    code = (
        "import sys, time, scmodal.links, scmodal.antigens as l\n"
        "assert not {'scanpy', 'torch', 'matplotlib', 'sklearn'} & set(sys.modules), 'heavy import'\n"
        "best = 9\n"
        "for _ in range(5):\n"
        "    l.antigen_table.cache_clear(); t = time.process_time(); l.antigen_table()\n"
        "    best = min(best, time.process_time() - t)\n"
        "print(best)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert float(done.stdout) < 0.05


# -------------------------------------------------------------------------------------------------------- spellings


@pytest.mark.parametrize(
    ("name", "canonical"),
    [
        ("CD3:UCHT1|CD3E|AHS0231|pAbO", "CD3"), ("CD45RA:HI100|PTPRC|AHS0009|pAbO", "CD45RA"),
        ("HLA-DR|CD74|AHS0035|pAbO", "HLA-DR"), ("CD127:HIL-7R-M21|IL7R|AHS0028|pAbO", "CD127"), ("CD3:UCHT1", "CD3"),
        ("Comp-FITC-A :: CD19", "CD19"), ("BV421-A :: CD4", "CD4"), ("CD20_abseq", "CD20"), ("CD20 Ab", "CD20"),
        ("I-Ab", "I-A/I-E"), ("TCR-gamma-delta:B1|TRD_TRG|AHS0015|pAbO", normalise_antigen("TCR-gamma-delta")),
        ("CD3", "CD3"), ("CD3e", "CD3"), ("CD3E", "CD3"), ("CD3_TotalSeqB", "CD3"), ("ADT_CD3_A0034", "CD3"),
        ("A0034-CD3", "CD3"), ("cd3.1", "CD3"), ("cd3.2", "CD3"), ("CD3-UCHT1", "CD3"), ("CD3_(UCHT1)", "CD3"),
        ("141Pr_CD3", "CD3"), ("CD3(Nd142)Di", "CD3"), ("Er168Di_CD3", "CD3"), ("CD3.Nd142.Di", "CD3"),
        ("CD31", "CD31"), ("CD3.1", "CD3"), ("CD1a", "CD1a"), ("CD1a.1", "CD1a"), ("CD10", "CD10"),
        ("CD158b.1", "CD158b"),
        ("CD158b1", "CD158b1"), ("CD106", "CD106"), ("CD112", "CD112"), ("CD112Di", "CD112Di"), ("112Cd_CD19", "CD19"),
        ("HLA.DR", "HLA-DR"), ("HLA-DR", "HLA-DR"), ("hla.dr", "HLA-DR"), ("HLA-A,B,C", "HLA-A,B,C"),
        ("HLA.A.B.C", "HLA-A,B,C"), ("cd11a.cd18", "CD11a/CD18"), ("CD11a/CD18", "CD11a/CD18"),
        ("cd66a.c.e", "CD66a/c/e"),
        ("integrin.7", "integrin b7"), ("integrin β7", "integrin b7"), ("siglec.8", "Siglec-8"), ("tim.4", "TIM-4"),
        ("tcrab", "TCRab"), ("TCR α/β", "TCRab"), ("TCR gamma/delta", "TCRgd"), ("tcr.v.7.2", "TCR Va7.2"),
        ("TCR Vα7.2", "TCR Va7.2"), ("tcr.v.2", "TCR Vd2"), ("tcr.v.9", "TCR Vg9"), ("tcr.v.24.j.18", "TCR Va24-Ja18"),
        ("PD-1", "CD279"), ("PD1", "CD279"), ("CD279 (PD-1)", "CD279"), ("B7-H1", "CD274"), ("PD-L1_29E.2A3", "CD274"),
        ("CD223_LAG3", "CD223"), ("cd307c.fcrl3", "CD307c"), ("CD45.1", "CD45"),
        ("Ms.CD45.2", "CD45"), ("PTPRC", "CD45"),
        ("CD45RO_UCHL1", "CD45RO"), ("CD45RA-2", "CD45RA"), ("B220", "CD45R"), ("MS4A1", "CD20"), ("Ms4a1", "CD20"),
        ("CD40L", "CD154"), ("CD40-L", "CD154"), ("hCD3", "CD3"), ("CD8 FITC-A", "CD8"), ("PE-Cy7 CD4", "CD4"),
        ("CD4.RPA.T4", "CD4"), ("Hu.CD4_RPA.T4", "CD4"), ("CD28_CD28.2", "CD28"), ("CD16/32", "CD16/32"),
        ("Ms.Ly.6G.Ly.6C", "Ly-6G/C"), ("F4.80", "F4/80"), ("Ki67", "Ki-67"), ("granzyme_b", "Granzyme B"),
        ("Foxp3", "FOXP3"), ("IFNγ", "IFN-gamma"), ("ADT_Prion protein_TotalSeqB", "CD230"), ("IgM", "IgM"),
        ("IgG", "IgG"),
        ("mouse IgM", "IgM"), ("Ig light chain κ", "Ig kappa"), ("FcεRIα", "FceRIa"), ("CD3-TotalSeqB.1", "CD3"),
    ],
)  # fmt: skip
def test_spellings(name: str, canonical: str) -> None:
    assert normalise_antigen(name) == canonical


@pytest.mark.parametrize(
    "name",
    ["CDD19", "CD1", "CD3_CD19", "CD16.CD56", "pSTAT3", "STAT3_pY705", "TNF-RE", "cytokeratin 13", "Cadherin-6",
     "FSC-A",
     "Time", "DNA1", "CD1d-tetramer", "CD999", "TGF-b2", "TCR Vb99", "", "_", "1"],
)  # fmt: skip
def test_what_is_no_known_antigen_stays_unknown(name: str) -> None:
    assert normalise_antigen(name) not in NAMES
    assert antigen_genes(name, "human") == ()


@pytest.mark.parametrize(
    "name",
    ["IgG1", "IgG2a", "IgG2b_control_TotalSeqB", "ADT_IgG1", "rat.igg1.1", "Rat-IgG2b", "Mouse IgG1, κ isotype Ctrl",
     "Isotype_MOPC.21", "isotype control", "Hamster IgM", "mouse_IgG2a_TotalSeqC", "MOPC-21", "Armenian Hamster IgG"],
)  # fmt: skip
def test_isotype_controls_match_nothing(name: str) -> None:
    assert normalise_antigen(name) == ISOTYPE
    assert antigen_genes(name, "human") == ()


def test_every_spelling_is_found_in_any_case() -> None:
    for spelling, canonical in SPELLINGS:
        found = {normalise_antigen(written) for written in (spelling, spelling.lower(), spelling.upper())}
        assert found == {canonical}, spelling


@settings(max_examples=300, deadline=None)
@given(st.text(max_size=30))
def test_normalising_twice_changes_nothing_for_any_text(name: str) -> None:
    once = normalise_antigen(name)
    assert normalise_antigen(once) == once


_DECORATED = st.builds(
    lambda prefixes, core, suffixes: "".join([*prefixes, core, *suffixes]),
    st.lists(st.sampled_from(PREFIXES), max_size=2),
    st.one_of(st.sampled_from([s for s, _ in SPELLINGS]), st.text("CDabLR123.-_/() ", max_size=8)),
    st.lists(st.sampled_from([*SUFFIXES, *CLONES, *NUMBERS]), max_size=3),
)


@settings(max_examples=400, deadline=None)
@given(_DECORATED)
def test_normalising_twice_changes_nothing_for_decorated_names(name: str) -> None:
    once = normalise_antigen(name)
    assert normalise_antigen(once) == once


@settings(max_examples=500, deadline=None)
@given(
    st.sampled_from(SPELLINGS),
    st.lists(st.sampled_from(PREFIXES), max_size=2),
    st.lists(st.sampled_from(SUFFIXES), max_size=3),
)
def test_decorations_never_change_the_antigen(
    spelling: tuple[str, str], prefixes: list[str], suffixes: list[str]
) -> None:
    name, canonical = spelling
    assert normalise_antigen("".join([*prefixes, name, *suffixes])) == canonical


@settings(max_examples=300, deadline=None)
@given(st.from_regex(r"[B-Zb-z][a-z]{3,8}[0-9]?", fullmatch=True), st.lists(st.sampled_from(BLIND), max_size=3))
def test_decorations_never_change_an_unknown_name(name: str, suffixes: list[str]) -> None:
    assert normalise_antigen(name + "".join(suffixes)) == normalise_antigen(name)


@settings(max_examples=400, deadline=None)
@given(st.sampled_from([n for n in NAMES if n.startswith("CD") and n[2].isdigit()]), st.sampled_from(CLONES + NUMBERS))
def test_clones_and_numbers_never_change_a_cd(name: str, suffix: str) -> None:
    assert normalise_antigen(name + suffix) == name


# ------------------------------------------------------------------------------------------------------------ genes


@pytest.mark.parametrize(
    ("name", "human", "mouse"),
    [
        ("CD3", "CD3D CD3E CD3G", "Cd3d Cd3e Cd3g"),
        ("CD8", "CD8A CD8B", "Cd8a Cd8b1"),
        ("CD8a", "CD8A", "Cd8a"),
        ("CD4", "CD4", "Cd4"),
        ("CD16", "FCGR3A FCGR3B", "Fcgr3"),
        ("CD20", "MS4A1", "Ms4a1"),
        ("CD24", "CD24", "Cd24a"),
        ("HLA-DR", "HLA-DRA HLA-DRB1 HLA-DRB5", ""),
        ("HLA-ABC", "HLA-A HLA-B HLA-C", "H2-K1 H2-D1"),
        ("CD15", "FUT4", "Fut4"),
        ("CD57", "B3GAT1", "B3gat1"),
        ("CD45", "PTPRC", "Ptprc"),
        ("CD45RA", "", ""),
        ("CD45RO", "", ""),
        ("CD45RB", "", ""),
        ("TCR a/b", "TRAC TRBC1 TRBC2", "Trac Trbc1 Trbc2"),
        ("TCR g/d", "TRDC", "Trdc"),
        ("IgM", "IGHM", "Ighm"),
        ("kappa", "IGKC", "Igkc"),
        ("CD11a/CD18", "ITGAL ITGB2", "Itgal Itgb2"),
        ("CD41/CD61", "ITGA2B ITGB3", "Itga2b Itgb3"),
        ("CD97", "ADGRE5", "Adgre5"),
        ("NK1.1", "", "Klrb1c"),
        ("Ly6C", "", "Ly6c1 Ly6c2"),
        ("CD45.1", "PTPRC", "Ptprc"),
    ],
)
def test_genes_of_antigens(name: str, human: str, mouse: str) -> None:
    assert antigen_genes(name, "human") == tuple(human.split())
    assert antigen_genes(name, "mouse") == tuple(mouse.split())


def test_unknown_species() -> None:
    with pytest.raises(InputError, match=r"unknown species 'yeast'.*human, mouse"):
        antigen_genes("CD3", "yeast")
    with pytest.raises(InputError, match="unknown species"):
        known_genes("yeast")


def test_known_genes() -> None:
    human, mouse = known_genes("human"), known_genes("mouse")
    assert {"CD3E", "MS4A1", "PTPRC", "PVRL2", "NECTIN2"} <= human
    assert {"Cd3e", "Ly6g", "Emr1", "Adgre1"} <= mouse
    assert "XBP1" in human  # by the antigen XBP1, not by its isoform
    assert "CASP3" not in human  # only by its cleaved form
    assert not human & {"", "ACTB"}


@pytest.mark.parametrize(
    ("names", "species"),
    [
        (["CD3E", "MS4A1", "MT-CO1", "C1orf54", "AL645608.8"], "human"),
        (["Cd3e", "Ms4a1", "mt-Co1", "4932438H23Rik", "H2-Aa"], "mouse"),
        (["ENSG00000167286", "ENSG00000156738"], "human"),
        (["ENSMUSG00000032093"], "mouse"),
        ([], "human"),
    ],
)
def test_guess_species(names: list[str], species: str) -> None:
    assert guess_species(names) == species


# ------------------------------------------------------------------------------------------------------------ links


def test_proteins_to_genes_in_either_order() -> None:
    rna = data("rna", ["CD3D", "CD3E", "CD3G", "MS4A1", "PTPRC", "ACTB", "HLA-DRA", "STAT4"])
    protein = data(
        "protein", ["CD3_TotalSeqB", "cd20.1", "CD45RA", "CD19", "CDD20", "HLA.DR", "IgG1_control", "Stat4", "NK1.1"]
    )
    table, coverage = build_links([rna, protein])
    expected = {
        ("CD3D", "CD3_TotalSeqB"), ("CD3E", "CD3_TotalSeqB"), ("CD3G", "CD3_TotalSeqB"), ("MS4A1", "cd20.1"),
        ("HLA-DRA", "HLA.DR"), ("STAT4", "Stat4"),
    }  # fmt: skip
    assert pairs(table) == expected
    assert len(table) == 6
    assert list(table.frame.columns) == COLUMNS
    assert set(table.frame["modality_a"]) == {"rna"}
    assert set(table.frame["modality_b"]) == {"protein"}
    assert (table.frame["weight"] == 1).all()
    turned, _ = build_links([protein, rna])
    assert pairs(turned) == {(b, a) for a, b in expected}
    assert pairs(LinkTable(turned.between("gex", "adt"))) == expected

    assert list(coverage.columns) == COVERAGE_COLUMNS
    assert coverage["matched"].dtype == bool
    assert row_of(coverage, "CD3_TotalSeqB")["partner"] == "CD3D;CD3E;CD3G"
    assert row_of(coverage, "MS4A1", "rna")["partner"] == "cd20.1"
    assert not row_of(coverage, "ACTB", "rna")["matched"]
    assert "gene CD19 not in the RNA data" in row_of(coverage, "CD19")["note"]
    assert row_of(coverage, "CD19")["nearest"] == ""
    assert "isoform of PTPRC" in row_of(coverage, "CD45RA")["note"]
    assert row_of(coverage, "IgG1_control")["note"] == ISOTYPE
    assert row_of(coverage, "IgG1_control")["nearest"] == ""
    assert "CD20" in row_of(coverage, "CDD20")["nearest"].split(";")
    assert "mouse only" in row_of(coverage, "NK1.1")["note"]
    assert "HLA-DRB1, HLA-DRB5 not in the RNA data" in row_of(coverage, "HLA.DR")["note"]
    assert len(coverage) == rna.n_vars + protein.n_vars


def test_a_typo_gets_the_nearest_name() -> None:
    protein = data("protein", ["CDD19", "CD3", "HLA-DDR", "Siglek-8"])
    _, coverage = build_links([data("rna", ["CD3D", "CD3E", "CD3G", "CD19"]), protein])
    assert row_of(coverage, "CDD19")["nearest"].split(";")[0] == "CD19"
    assert row_of(coverage, "HLA-DDR")["nearest"].split(";")[0] == "HLA-DR"
    assert row_of(coverage, "Siglek-8")["nearest"].split(";")[0] == "Siglec-8"
    assert (coverage["nearest"].str.split(";").map(len) <= 3).all()


def test_a_gene_symbol_as_protein_name_links_to_itself_alone() -> None:
    rna = data("rna", ["CD3D", "CD3E", "CD3G", "MS4A1", "CD14"])
    table, _ = build_links([data("protein", ["CD3E", "MS4A1", "cd14"]), rna])
    assert pairs(table) == {("CD3E", "CD3E"), ("MS4A1", "MS4A1"), ("cd14", "CD14")}


def test_mouse_genes_are_found_by_their_case() -> None:
    rna = data("rna", ["Cd3e", "Ms4a1", "Klrb1c", "Ptprc", "Emr1", "Actb"])
    table, _ = build_links([rna, data("protein", ["Ms.CD3", "CD20", "NK-1.1", "CD45.2", "F4/80", "B220"])])
    assert pairs(table) == {
        ("Cd3e", "Ms.CD3"), ("Ms4a1", "CD20"), ("Klrb1c", "NK-1.1"), ("Ptprc", "CD45.2"), ("Emr1", "F4/80")
    }  # fmt: skip


def test_former_and_mangled_gene_symbols() -> None:
    rna = data("rna", ["CD97", "PVRL2", "HLA.DRA", "C10orf54"])
    table, _ = build_links([rna, data("protein", ["CD97", "CD112", "HLA-DR", "VISTA"])])
    assert pairs(table) == {("CD97", "CD97"), ("PVRL2", "CD112"), ("HLA.DRA", "HLA-DR"), ("C10orf54", "VISTA")}


def test_ensembl_identifiers_use_the_column_of_symbols() -> None:
    identifiers = ["ENSG00000010610", "ENSG00000156738", "ENSG00000177455"]
    symbols = ["CD4", "MS4A1", "CD19"]
    protein = data("protein", ["CD4", "CD20", "CD19"])
    for column in ("gene_symbols", "SYMBOL"):
        table, _ = build_links([data("rna", identifiers, **{column: symbols}), protein])
        assert pairs(table) == set(zip(identifiers, ["CD4", "CD20", "CD19"], strict=True))
    with pytest.raises(InputError, match=r"Ensembl identifiers.*gene symbol"):
        build_links([data("rna", identifiers), protein])


@pytest.mark.parametrize(
    ("adatas", "table", "told", "not_told"),
    [
        # the mend is another one, and there is nothing that looks human
        (
            [data("rna", [f"ENSG{i:011d}" for i in range(9)]), data("protein", ["CD4", "CD20", "CD19"])],
            None,
            ["name them by gene symbol"],
            ["Name the links", "look human"],
        ),
        (
            [data("rna", ["CD4", "CD19", "ACTB"]), data("protein", ["CD4", "CD19"])],
            None,
            ["All 2 features of the protein data are linked already", "look human"],
            ["Name the links"],
        ),
        (
            [data("rna", ["CD4", "CD19", "ACTB"]), data("protein", ["CD4"])],
            None,
            ["The only feature of the protein data is linked already"],
            ["Name the links"],
        ),
        (
            [data("rna", ["CD4", "CD19", "ACTB"]), data("protein", ["CD4", "CD19", "CD3"])],
            pd.DataFrame({"feature_a": ["CD4", "x"], "feature_b": ["CD4", "CD19"]}),
            ["Add links to the table, or correct its names"],
            ["Name the links", "look human"],
        ),
        (
            [data("rna", ["Actb", "Gapdh", "Sst"]), data("protein", ["CD4", "foo", "bar"])],
            None,
            ["Name the links in a table"],
            ["look human", "look mouse"],
        ),
    ],
    ids=["Ensembl", "small panel", "one protein", "own table", "other names"],
)
def test_only_advice_that_helps(
    adatas: list[AnnData], table: pd.DataFrame | None, told: list[str], not_told: list[str]
) -> None:
    with pytest.raises(InputError) as error:
        build_links(adatas, table)
    for text in told:
        assert text in str(error.value)
    for text in not_told:
        assert text not in str(error.value)


def test_all_features_linked_is_told_of_the_pair_that_lacks_links() -> None:
    adatas = [data("rna", ["CD4", "CD19", "CD14"]), data("protein", ["CD4", "CD19", "CD14"])]
    with pytest.raises(InputError, match="Name the links in a table"):
        build_links([*adatas, data("cytometry", ["CD4", "CD33", "CD38", "CD5"])])


def test_genes_given_as_proteins_are_told() -> None:
    genes = sorted(known_genes("human"))[:400] + [f"GENE{i}" for i in range(1600)]
    panel = ["CD3", "CD4", "CD8", "CD19", "CD14", "CD56"]
    with pytest.raises(
        InputError, match=r"2,000 of the 2,000 protein features are rna features, too: is one file given"
    ):
        build_links([data("rna", genes), data("protein", genes)])
    with pytest.raises(
        InputError, match="protein data have 2,000 features and the rna data 6: are the two files exchanged"
    ):
        build_links([data("rna", panel), data("protein", genes)])
    # a large panel whose antibodies are named by their genes is one
    links, _ = build_links([data("rna", genes), data("protein", genes[:400])])
    assert len(links) > 300


@pytest.mark.parametrize(
    ("rna", "protein", "told"),
    [
        (
            [f"{cell}-1" for cell in ("AAACCTGAGAAACCAT", "AAACCTGAGAAACCGC", "AAACCTGAGAAACCTA")],
            None,
            r"the rna features are named like cells \(AAACCTGAGAAACCAT-1",
        ),
        (
            [f"cell_{i}" for i in range(4)],
            ["ACTB", "CD4", "CD19", "MS4A1", "CD8A"],
            "the rna cells are named like genes",
        ),
        ([f"c{i}" for i in range(4)], [f"ENSG{i:011d}" for i in range(4)], "the rna cells are named like genes"),
    ],
)
def test_exchanged_rows_and_columns_are_told(rna: list[str], protein: list[str] | None, told: str) -> None:
    cells = protein or ["c1", "c2"]
    turned = AnnData(np.ones((len(cells), len(rna)), np.float32), pd.DataFrame(index=cells), pd.DataFrame(index=rna))
    turned.uns["scmodal"] = {"modality": "rna"}
    with pytest.raises(InputError, match=f"{told}.*transpose it") as error:
        build_links([turned, data("protein", ["CD4", "CD19", "CD3"])])
    assert "Name the links" not in str(error.value)


def test_wells_and_barcoded_antibodies_are_not_taken_for_exchanged() -> None:
    cells = [f"{row}{column}" for row in "ABCF" for column in range(1, 13)]
    rna = AnnData(np.ones((48, 3), np.float32), pd.DataFrame(index=cells), pd.DataFrame(index=["Sst", "Vip", "Gad1"]))
    rna.uns["scmodal"] = {"modality": "rna"}
    protein = data("protein", ["foo-CTCATTGTAACTCCT", "bar-CTCATTGTAACTCCA", "baz-CTCATTGTAACTCCC"])
    with pytest.raises(InputError) as error:
        build_links([rna, protein])
    assert "exchanged" not in str(error.value)


def test_panels_by_the_same_antigen() -> None:
    protein = data("protein", ["CD3_TotalSeqB", "PD-1", "CD8a", "CD45RA", "IgG1", "CD4", "made-up"])
    cytometry = data("cytometry", ["141Pr_CD3", "CD279", "CD8", "CD45RA(Nd143)Di", "IgG2a", "CD14", "Made.Up"])
    table, coverage = build_links([protein, cytometry])
    assert pairs(table) == {
        ("CD3_TotalSeqB", "141Pr_CD3"), ("PD-1", "CD279"), ("CD8a", "CD8"), ("CD45RA", "CD45RA(Nd143)Di"),
        ("made-up", "Made.Up"),
    }  # fmt: skip
    assert row_of(coverage, "IgG1")["note"] == ISOTYPE
    assert "CD4 not in the cytometry data" in row_of(coverage, "CD4")["note"]
    assert "shared gene CD8A" in row_of(coverage, "CD8a")["note"]


def test_other_pairs_by_equal_names() -> None:
    rna = data("rna", ["Actb", "Cd4", "gad1", "Sst", "Pvalb"])
    atac = data("atac", ["Cd4", "Actb", "Gad1", "Vip", "PVALB", "Pvalb"])
    table, coverage = build_links([rna, atac])
    assert pairs(table) == {("Actb", "Actb"), ("Cd4", "Cd4"), ("gad1", "Gad1"), ("Pvalb", "Pvalb")}
    assert "case" in row_of(coverage, "gad1", "rna")["note"]
    with pytest.raises(InputError, match="are peaks: give gene activity"):
        build_links([rna, data("atac", ["chr1:100-200", "chr2:5-90", "chrX:1-2"])])
    with pytest.raises(InputError, match="rna and atac have 0 links; at least 3 are needed") as error:
        build_links([rna, data("atac", ["VIP1", "Npas1", "Lhx6", "Cck9"])])
    assert "Name the links in a table" in str(error.value)


def test_chain_of_three_links_neighbours_only() -> None:
    rna = data("rna", ["CD4", "CD14", "CD19"])
    protein = data("protein", ["CD4", "CD14", "CD19"])
    cytometry = data("cytometry", ["CD4", "CD14", "CD19"])
    table, coverage = build_links([rna, protein, cytometry])
    assert len(table) == 6
    assert len(table.between("rna", "protein")) == 3
    assert len(table.between("cytometry", "protein")) == 3
    assert table.between("rna", "cytometry").empty
    assert len(coverage) == 9
    summary = coverage_summary(coverage, table)
    assert [p["n_links"] for p in summary["pairs"]] == [3, 3]


def test_links_of_every_topology() -> None:
    rna = data("rna", ["CD4", "CD14", "CD19", "MS4A1"])
    protein = data("protein", ["CD4", "CD14", "CD19", "made-up"])
    cytometry = data("cytometry", ["CD4", "CD14", "CD19", "CD20"])

    def n_links(topology: str) -> dict[tuple[str, str], int]:
        table, coverage = build_links([rna, protein, cytometry], topology=topology)
        summary = coverage_summary(coverage, table)
        return {(p["modality_a"], p["modality_b"]): p["n_links"] for p in summary["pairs"]}

    assert n_links("chain") == {("rna", "protein"): 3, ("protein", "cytometry"): 3}
    assert n_links("star") == {("rna", "protein"): 3, ("rna", "cytometry"): 4}
    assert n_links("all") == {("rna", "protein"): 3, ("rna", "cytometry"): 4, ("protein", "cytometry"): 3}
    with pytest.raises(InputError, match="unknown topology 'ring'"):
        build_links([rna, protein], topology="ring")


def test_a_feature_linked_in_two_pairs_names_both_partners() -> None:
    rna = data("rna", ["CD4", "CD14", "CD19", "MS4A1"])
    protein = data("protein", ["CD4", "CD14", "CD19"])
    cytometry = data("cytometry", ["CD4", "CD14", "CD19", "CD20"])
    table, coverage = build_links([rna, protein, cytometry], topology="star")
    assert row_of(coverage, "CD4", "rna")["partner"] == "CD4 (protein);CD4 (cytometry)"
    assert row_of(coverage, "MS4A1", "rna")["partner"] == "CD20 (cytometry)"
    # a modality with one partner needs no name of it
    assert row_of(coverage, "CD4", "protein")["partner"] == "CD4"
    assert len(table) == 7
    assert coverage_summary(coverage, table)["modalities"]["rna"]["n_linked"] == 4


def test_links_of_a_users_table_serve_every_pair_that_has_both_features() -> None:
    names = ["CD4", "CD14", "CD19"]
    three = [data("rna", [*names, "G"]), data("protein", names), data("cytometry", [*names, "M"])]
    plain = pd.DataFrame({"feature_a": [*names, "G"], "feature_b": [*names, "M"]})
    table, _ = build_links(three, plain, "star")
    assert len(table.between("rna", "protein")) == 3
    assert len(table.between("rna", "cytometry")) == 4
    # G and M are of modalities that the chain does not match
    chain, _ = build_links(three, plain, "chain")
    assert len(chain) == 6
    assert chain.messages == [
        "links table: 1 links left out that are not of matched modalities (rna and protein, protein and cytometry)"
    ]


def test_a_pair_without_links_is_named_with_an_order_that_would_do() -> None:
    """The panel in the middle knows none of the cytometer's antigens, but their genes are there."""
    rna = data("rna", ["CD4", "CD14", "CD19", "MS4A1", "NCAM1", "CD33"])
    protein = data("protein", ["CD4", "CD14", "CD19"])
    cytometry = data("cytometry", ["CD20", "CD56", "CD33"])
    with pytest.raises(InputError) as error:
        build_links([rna, protein, cytometry])
    assert error.value.problems[0].startswith("protein and cytometry have 0 links; at least 3 are needed")
    assert "What has enough links: --topology star or the order protein, rna, cytometry.\n" in str(error.value)
    with pytest.raises(InputError, match="What has enough links: --topology chain"):
        build_links([protein, rna, cytometry], topology="all")


def test_a_star_whose_hub_has_no_links() -> None:
    rna = data("rna", ["CD4", "CD14", "CD19"])
    protein = data("protein", ["CD4", "CD14", "CD19"])
    stranger = data("cytometry", ["x1", "x2", "x3"])
    with pytest.raises(InputError) as error:
        build_links([stranger, rna, protein], topology="star")
    assert len(error.value.problems) == 2
    assert "cytometry and rna have 0 links" in error.value.problems[0]
    assert "cytometry and protein have 0 links" in error.value.problems[1]
    assert "No other order or --topology has links enough to join all of them." in str(error.value)


def test_a_modality_given_twice_is_refused() -> None:
    protein = data("protein", ["CD4", "CD14", "CD19"])
    with pytest.raises(InputError, match="inputs 1 and 3 are of one modality, protein: join them in `scmodal prep"):
        build_links([protein, data("rna", ["CD4", "CD14", "CD19"]), protein], topology="all")


def test_too_few_links_show_the_coverage() -> None:
    with pytest.raises(InputError) as error:
        build_links([data("rna", ["CD4", "ACTB"]), data("protein", ["CD4", "CDD19", "CD45RO"])])
    text = str(error.value)
    assert "rna and protein have 1 link; at least 3 are needed" in text
    assert "CDD19" in text
    assert "CD19" in text.split("CDD19")[1]
    assert "CD45RO" in text
    assert error.value.exit_code == 2


def test_unprepared_data_are_refused() -> None:
    bare = AnnData(np.ones((2, 1), dtype=np.float32))
    with pytest.raises(InputError, match="input 2 names no modality"):
        build_links([data("rna", ["CD4"]), bare])
    with pytest.raises(InputError, match="at least two"):
        build_links([data("rna", ["CD4"])])


# ------------------------------------------------------------------------------------------------------- own tables

RNA = ["CD4", "CD14", "CD19", "GENE1"]
PROTEIN = ["p4", "p14", "p19", "CD4"]


@pytest.mark.parametrize("turned", [False, True])
@pytest.mark.parametrize("named", [False, True])
def test_own_table_replaces_the_built_in_one(turned: bool, named: bool) -> None:
    frame = pd.DataFrame({"feature_a": ["CD4", "CD14", "CD19"], "feature_b": ["p4", "p14", "p19"]})
    if named:
        frame = frame.assign(modality_a="gex", modality_b="ADT")
    if turned:
        swap = {
            "feature_a": "feature_b",
            "feature_b": "feature_a",
            "modality_a": "modality_b",
            "modality_b": "modality_a",
        }
        frame = frame.rename(columns=swap)
    table, coverage = build_links([data("rna", RNA), data("protein", PROTEIN)], frame.assign(weight=[1, 2, 0.5]))
    assert pairs(table) == {("CD4", "p4"), ("CD14", "p14"), ("CD19", "p19")}
    assert list(table.frame["weight"]) == [1.0, 2.0, 0.5]
    assert not row_of(coverage, "CD4")["matched"]


def test_own_table_with_names_that_are_not_there() -> None:
    frame = pd.DataFrame(
        {"feature_a": ["CD4", "CD14", "CD19", "GENE2", "x"], "feature_b": ["p4", "p14", "p19", "CD4", "y"]}
    )
    table, coverage = build_links([data("rna", RNA), data("protein", PROTEIN)], frame)
    assert len(table) == 3
    missing = row_of(coverage, "GENE2", "rna")
    assert not missing["matched"]
    assert missing["nearest"].split(";")[0] == "GENE1"
    assert "not in the data" in missing["note"]
    assert any("GENE2 (nearest: GENE1" in m for m in table.messages)
    summary = coverage_summary(coverage, table)
    assert summary["not_in_data"] == ["GENE2", "x", "y"]
    assert summary["modalities"]["rna"]["n_features"] == len(RNA)
    with_modalities = frame.assign(modality_a="rna", modality_b="protein")
    _, coverage = build_links([data("rna", RNA), data("protein", PROTEIN)], with_modalities)
    assert row_of(coverage, "y")["nearest"] == ""
    assert row_of(coverage, "GENE2", "rna")["nearest"].split(";")[0] == "GENE1"


def test_every_fault_of_a_table_at_once(tmp_path: Path) -> None:
    path = tmp_path / "own.tsv"
    path.write_text(
        "feature_a\tfeature_b\tmodality_a\tmodality_b\tweight\n"
        "CD4\tp4\trna\tprotein\t-1\n"
        "\tp14\trna\tprotein\t1\n"
        "CD19\tp19\trna\tprotien\tlots\n"
        "CD20\tp20\trna\t\tnan\n"
    )
    with pytest.raises(InputError) as error:
        LinkTable.read(path)
    text = str(error.value)
    assert len(error.value.problems) == 4
    assert "empty feature_a in data row 2" in text
    assert "did you mean 'protein'" in text
    assert "data row 4" in text
    assert "weight must be a number of 0 or more; data row 1, 3, 4: '-1', 'lots', 'nan'" in text
    assert all(str(path) in problem for problem in error.value.problems)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("feature_a,feature_B2\nCD4,p4\n", "no column 'feature_b'; did you mean 'feature_B2'"),
        ("feature_a\tfeature_b\n", "holds no links"),
        ("feature_a\tfeature_b\tmodality_a\nx\ty\trna\n", "give both modality_a and modality_b"),
        ("", "not a table"),
    ],
)
def test_faulty_tables(tmp_path: Path, text: str, message: str) -> None:
    path = tmp_path / "own.csv"
    path.write_text(text)
    with pytest.raises(InputError, match=message):
        LinkTable.read(path)


def test_missing_and_binary_tables(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no such links table"):
        LinkTable.read(tmp_path / "none.tsv")
    with pytest.raises(InputError, match="a folder; give the links table"):
        LinkTable.read(tmp_path)
    (tmp_path / "y.tsv").write_text("feature_a\tfeature_b\tmodality_a\tmodality_b\nCD4\tp4\tatac\tcytometry\n")
    with pytest.raises(InputError, match=r"all 1 links are of other modalities \(atac, cytometry\) than the data"):
        LinkTable.read(tmp_path / "y.tsv", ["rna", "protein"])
    (tmp_path / "x.tsv").write_bytes(b"\x89HDF\r\n\x1a\n\xff\xfe")
    with pytest.raises(InputError, match="not a table"):
        LinkTable.read(tmp_path / "x.tsv")
    with pytest.raises(InputError, match="no column 'feature_a'"):
        build_links([data("rna", RNA), data("protein", PROTEIN)], pd.DataFrame({"a": ["CD4"]}))


def test_duplicates_are_dropped_and_said(tmp_path: Path) -> None:
    path = tmp_path / "own.csv"
    path.write_text("feature_a,feature_b\nCD4,p4\nCD14,p14\nCD4,p4\nCD19,p19\n")
    table = LinkTable.read(path)
    assert len(table) == 3
    assert table.messages == [f"{path}: 1 duplicate links dropped (data row 3)"]
    built, coverage = build_links([data("rna", RNA), data("protein", PROTEIN)], table)
    assert len(built) == 3
    assert "duplicate" in coverage_text(coverage, built)


def test_names_that_pandas_takes_for_nothing_stay_names(tmp_path: Path) -> None:
    path = tmp_path / "own.tsv"
    path.write_text("feature_a\tfeature_b\nNA\tnan\n")
    assert pairs(LinkTable.read(path)) == {("NA", "nan")}


@pytest.mark.parametrize("name", ["links.tsv", "links.tsv.gz"])
def test_written_links_read_back(tmp_path: Path, name: str) -> None:
    table, _ = build_links([data("rna", RNA), data("protein", ["CD4", "CD14", "CD19"])])
    table.write(tmp_path / name)
    again = LinkTable.read(tmp_path / name, ["rna", "protein"])
    pd.testing.assert_frame_equal(again.frame, table.frame, check_dtype=False)
    more = LinkTable(pd.concat([table.frame, table.frame.tail(1).assign(modality_b="cytometry")]))
    more.write(tmp_path / name)
    other = LinkTable.read(tmp_path / name, ["rna", "cytometry"])
    assert len(other) == 1
    assert "3 links of other modalities" in other.messages[0]


def test_links_without_modalities_come_in_both_orientations(tmp_path: Path) -> None:
    path = tmp_path / "own.tsv"
    path.write_text("feature_a\tfeature_b\np4\tCD4\n")
    frame = LinkTable.read(path, ["rna", "protein"]).between("rna", "protein")
    assert set(zip(frame["feature_a"], frame["feature_b"], strict=True)) == {("p4", "CD4"), ("CD4", "p4")}
    assert set(frame["modality_a"]) == {"rna"}


# --------------------------------------------------------------------------------------------------------- coverage


def test_summary_and_text() -> None:
    table, coverage = build_links(
        [data("rna", RNA), data("protein", ["CD4", "CD14", "CD19", "CD45RA", *[f"zz{i}" for i in range(30)]])]
    )
    summary = json.loads(json.dumps(coverage_summary(coverage, table)))
    assert summary["n_links"] == 3
    assert summary["pairs"] == [{"modality_a": "rna", "modality_b": "protein", "n_links": 3}]
    assert summary["modalities"]["protein"]["n_features"] == 34
    assert summary["modalities"]["protein"]["n_linked"] == 3
    assert summary["modalities"]["rna"]["fraction_linked"] == 0.75
    assert "isoform" in summary["modalities"]["protein"]["unlinked"]["CD45RA"]
    assert "unlinked" not in summary["modalities"]["rna"]
    text = coverage_text(coverage, table, max_rows=5)
    assert "rna - protein: 3 links" in text
    assert "protein: 3 of 34 features linked" in text
    assert "CD45RA: isoform of PTPRC" in text
    assert "and 26 more" in text
    assert "the gene names look human" in text


def test_large_panels_are_quick() -> None:
    genes = [*(f"GENE{i}" for i in range(20_000)), "CD4", "CD14", "CD19"]
    panel = [f"ADT_{name}_A{i:04d}" for i, name in enumerate(NAMES[:300])]
    start = time.process_time()
    table, _ = build_links([data("rna", genes), data("protein", panel)])
    assert time.process_time() - start < 5
    assert len(table) >= 3


# -------------------------------------------------------------------------------------------------------- real data


def _read(path: Path, modality: str) -> AnnData:
    import anndata

    adata = anndata.read_h5ad(path)
    adata.uns["scmodal"] = {"modality": modality}
    return adata


def test_ten_x_pbmc(shared_data: Path) -> None:
    folder = shared_data / "cite_pbmc10k"
    table, coverage = build_links([_read(folder / "rna.h5ad", "rna"), _read(folder / "adt.h5ad", "protein")])
    protein = coverage[coverage["modality"] == "protein"]
    assert set(protein.loc[~protein["matched"], "feature"]) == {"CD45RA", "CD45RO"}
    # CD3E is not among the 4,000 genes of this file
    assert pairs(table) == {
        ("IL7R", "CD127"), ("CD14", "CD14"), ("FUT4", "CD15"), ("FCGR3A", "CD16"), ("CD19", "CD19"), ("IL2RA", "CD25"),
        ("CD3D", "CD3"), ("CD3G", "CD3"), ("CD4", "CD4"), ("NCAM1", "CD56"), ("CD8A", "CD8a"), ("PDCD1", "PD-1"),
        ("TIGIT", "TIGIT"),
    }  # fmt: skip


def test_hao_pbmc(shared_data: Path) -> None:
    mudata = pytest.importorskip("mudata")
    both = mudata.read_h5mu(shared_data / "hao_pbmc_cite" / "quickstart_pbmc_mosaic.h5mu")
    rna, protein = both.mod["rna"].copy(), both.mod["adt"].copy()
    rna.uns["scmodal"], protein.uns["scmodal"] = {"modality": "rna"}, {"modality": "protein"}
    table, coverage = build_links([rna, protein])
    assert len(table) >= 69
    of_protein = coverage[coverage["modality"] == "protein"]
    assert not of_protein["note"].str.contains("not in the antigen table").any()
    found = pairs(table)
    for pair in [
        ("MS4A1", "cd20"), ("HLA-DRA", "hla.dr"), ("TIMD4", "tim.4"), ("FCRL3", "cd307c.fcrl3"), ("TRDC", "tcrgd"),
        ("CLEC1B", "clec1b"), ("KIR3DL1", "cd158e1"), ("IGHM", "igm"), ("CD8A", "cd8a"), ("CD8B", "cd8"),
        ("NCAM1", "cd56.1"), ("NCAM1", "cd56.2"), ("CD38", "cd38.1"), ("CLEC9A", "cd370"), ("B3GAT1", "cd57"),
    ]:  # fmt: skip
        assert pair in found
    # genes that only look alike
    for gene, name in [("PECAM1", "cd3.1"), ("CD3D", "cd31"), ("TRDC", "tcr.v.2"), ("ITGA2", "integrin.7")]:
        assert (gene, name) not in found
