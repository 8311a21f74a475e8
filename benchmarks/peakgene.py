#!/usr/bin/env python
"""Peak-gene links: how long they take at full size, and how good they are on real cells.

    python benchmarks/peakgene.py --only speed       # 20,000 genes x 100,000 peaks x 500 units, window 500 kb
    python benchmarks/peakgene.py --only snare       # mouse cortex, pairing hidden from training; needs ../shared/data

The speed is that of everything after the units' values are there: pairs, correlations, background, p-values, rank
correlations; on random values, since the work does not depend on them. On real cells the links through the unpaired
path (training does not know which cells are the same) are compared with those from the true pairs, beside gene activity
in place of imputed expression and plain distance. Results: benchmarks/peakgene.json.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import resource
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
DATA = Path(os.environ.get("SCMODAL_DATA", HERE.parents[1] / "shared" / "data"))
TOP = 1000


def machine() -> dict[str, Any]:
    """What it was measured on."""
    names = [
        line.split(":")[1].strip() for line in Path("/proc/cpuinfo").read_text().splitlines() if "model name" in line
    ]
    return {"processor": names[0] if names else platform.processor(), "cores": os.cpu_count()}


def random_genome(rng: Any, n_genes: int, n_peaks: int) -> tuple[Any, Any]:
    """Genes and peaks at random places of 20 chromosomes of 140 Mb, peaks half of the time near a gene as real ones."""
    import numpy as np
    import pandas as pd

    length = 140_000_000
    genes = pd.DataFrame(
        {
            "chrom": [f"chr{i}" for i in rng.integers(1, 21, n_genes)],
            "tss": rng.integers(0, length, n_genes),
            "strand": rng.choice(["+", "-"], n_genes),
        }
    )
    near = rng.integers(n_genes, size=n_peaks // 2)
    middle = np.concatenate(
        [
            genes["tss"].to_numpy()[near] + rng.normal(0, 30_000, len(near)).astype(int),
            rng.integers(0, length, n_peaks - len(near)),
        ]
    )
    chrom = np.concatenate(
        [genes["chrom"].to_numpy()[near], [f"chr{i}" for i in rng.integers(1, 21, n_peaks - len(near))]]
    )
    return genes, pd.DataFrame({"chrom": chrom, "middle": middle})


def speed(n_genes: int, n_peaks: int, n_units: int, window: int) -> dict[str, Any]:
    """Seconds and peak memory of the links at full size."""
    import numpy as np

    from scmodal.peakgene import LinkSettings, link_peaks
    from scmodal.peakgene.pairs import pairs_within

    rng = np.random.default_rng(0)
    genes, peaks = random_genome(rng, n_genes, n_peaks)
    expression = rng.standard_normal((n_genes, n_units), dtype=np.float32)
    # sparse counts, as those of units: many ties and zeros
    accessibility = np.log1p(rng.poisson(rng.gamma(1.0, 1.0, (n_peaks, 1)), (n_peaks, n_units))).astype(np.float32)
    start = time.monotonic()
    pairs = pairs_within(genes, peaks, window)
    table = link_peaks(expression, accessibility, genes, peaks, pairs, LinkSettings(window=window))
    seconds = time.monotonic() - start
    return {
        "n_genes": n_genes,
        "n_peaks": n_peaks,
        "n_units": n_units,
        "window": window,
        "n_pairs": len(table),
        "seconds": round(seconds, 1),
        "cpu_seconds": round(time.process_time(), 1),
        "peak_memory_gb": round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / 1e9, 2),
        "threads": int(os.environ.get("OMP_NUM_THREADS", os.cpu_count() or 1)),
        "share_p_below_0.05": round(float((table["p"] < 0.05).mean()), 4),
    }


def command(*arguments: object) -> None:
    """Run a command of the pipeline in this process."""
    from scmodal import cli

    cli.cli.main([str(a) for a in arguments], standalone_mode=False)


def snare(seed: int, options: list[str]) -> dict[str, Any]:
    """Links on mouse cortex through the unpaired path, against those from the true pairs."""
    import pandas as pd

    source, genes = DATA / "snare_cortex", DATA / "genes" / "mm10_genes.bed"
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        for modality in ("rna", "atac"):
            extra = ("--genes", genes) if modality == "atac" else ()
            command("preprocess", "--input", source / f"{modality}.h5ad", "--modality", modality,
                    "--label-key", "cell_type", *extra, "--output", folder / f"{modality}.h5ad")  # fmt: skip
        both = ("--input", folder / "rna.h5ad", "--input", folder / "atac.h5ad")
        command("link", *both, "--output", folder / "links.tsv")
        command(
            "integrate", *both, "--links", folder / "links.tsv", "--output", folder / "run", "--seed", seed, *options
        )
        command("peakgene", "--rna", folder / "rna.h5ad", "--atac", folder / "atac.h5ad", "--genes", genes,
                "--integrated", folder / "run" / "integrated.h5mu", "--output", folder / "out",
                "--paired", "--leave-locus-out")  # fmt: skip
        metrics = folder / "metrics.json"
        command("evaluate", "--integrated", folder / "run" / "integrated.h5mu", "--paired", "--label-key", "cell_type",
                "--output", metrics)  # fmt: skip
        from scmodal.peakgene.formats import read_table

        table = read_table(folder / "out" / "peak_gene.tsv.gz")
        table["activity"] = by_gene_activity(folder, genes, table)
        table["z_paired"] = by_true_pairs(folder, genes, table)
        scores = json.loads(metrics.read_text())
    return {"seed": seed, "options": options, "n_pairs": len(table), "n_links": int((table["fdr"] <= 0.05).sum()),
            "foscttm": next(iter(scores["foscttm"].values())), **agreement(table, pd)}  # fmt: skip


def units_and_values(folder: Path, genes: Path) -> tuple[Any, Any, Any]:
    """The cells of a run, the units that `scmodal peakgene` makes by default, and the accessibility in them."""
    from scmodal.peakgene import LinkSettings
    from scmodal.peakgene.aggregate import accessibility
    from scmodal.peakgene.inputs import read_inputs
    from scmodal.peakgene.units import choose_units

    data = read_inputs(
        folder / "rna.h5ad", folder / "atac.h5ad", folder / "run" / "integrated.h5mu", genes, device="cpu"
    )
    own = LinkSettings()
    units = choose_units(data.z, own.n_units, own.unit_size, own.max_overlap, own.seed)
    return data, units, accessibility(units, data.counts)


def numbered(data: Any, table: Any) -> Any:
    """The tested pairs by row numbers of the genes and peaks."""
    import pandas as pd

    return pd.DataFrame(
        {
            "gene": pd.Index(data.genes["gene"]).get_indexer(table["gene"]),
            "peak": pd.Index(data.peaks["peak"]).get_indexer(table["peak"]),
        }
    )


def by_gene_activity(folder: Path, genes: Path, table: Any) -> Any:
    """Correlation of each pair with the gene's activity in place of its expression."""
    from scmodal.io import read_prepared
    from scmodal.peakgene.aggregate import unit_means
    from scmodal.peakgene.link import other_correlation

    data, units, opened = units_and_values(folder, genes)
    activity = read_prepared(folder / "atac.h5ad")
    rows = activity.var_names.get_indexer(data.genes["gene"])
    return other_correlation(numbered(data, table), unit_means(units, activity.X), opened, rows)


def by_true_pairs(folder: Path, genes: Path, table: Any) -> Any:
    """Score of each pair with the expression measured in the very cells of each unit: the truth to compare with."""
    from scmodal.io import read_prepared
    from scmodal.peakgene import link_peaks
    from scmodal.peakgene.aggregate import unit_means

    data, units, opened = units_and_values(folder, genes)
    rna = read_prepared(folder / "rna.h5ad")
    measured = rna[data.atac.obs_names, list(data.genes["gene"])]
    pairs = numbered(data, table)
    found = link_peaks(unit_means(units, measured.X), opened, data.genes, data.peaks, pairs)
    return pairs.merge(found[["gene", "peak", "z"]], on=["gene", "peak"], how="left")["z"].to_numpy()


def agreement(table: Any, pd: Any) -> dict[str, Any]:
    """Each way to rank pairs against the ranking from the true pairs."""
    known = table[table["r_paired"].notna() & table["z_paired"].notna()].reset_index(drop=True)
    best = set(known["z_paired"].abs().nlargest(TOP).index)
    ranking = {
        "ours_z": known["z"].abs(),
        "ours_r": known["r"].abs(),
        "ours_r_locus_out": known["r_locus_out"].abs(),
        "gene_activity": known["activity"].abs().fillna(0),
        "distance": -known["distance"].abs(),
    }
    return {
        "chance": round(TOP / len(known), 4),
        "precision_at_1000": {
            name: round(len(best & set(values.nlargest(TOP).index)) / TOP, 4) for name, values in ranking.items()
        },
        "correlation_of_r": {
            "ours": round(float(known["r"].corr(known["r_paired"])), 4),
            "ours_locus_out": round(float(known["r_locus_out"].corr(known["r_paired"])), 4),
            "gene_activity": round(float(known["activity"].corr(known["r_paired"])), 4),
        },
    }


def main() -> None:
    """Measure and keep the other parts of the file as they are."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", choices=["speed", "snare"])
    parser.add_argument("--seeds", type=int, default=1)
    parser.add_argument("--genes", type=int, default=20_000)
    parser.add_argument("--peaks", type=int, default=100_000)
    parser.add_argument("--units", type=int, default=500)
    parser.add_argument("--window", type=int, default=500_000)
    parser.add_argument("--integrate", default="", help="options of `scmodal integrate`, in one string")
    parser.add_argument("--output", type=Path, default=HERE / "peakgene.json")
    given = parser.parse_args()
    results = json.loads(given.output.read_text()) if given.output.exists() else {}
    if given.only in (None, "speed"):
        results["speed"] = {"machine": machine(), **speed(given.genes, given.peaks, given.units, given.window)}
    if given.only in (None, "snare"):
        if not DATA.is_dir():
            sys.exit(f"the published data sets are not at {DATA} (set SCMODAL_DATA)")
        results["snare_cortex"] = [snare(seed, given.integrate.split()) for seed in range(given.seeds)]
    given.output.write_text(json.dumps(results, indent=2) + "\n")
    print(json.dumps(results, indent=2))


if __name__ == "__main__":
    main()
