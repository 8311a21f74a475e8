#!/usr/bin/env python
"""Peak-gene links: how long they take at full size, and how good they are on real cells.

    python benchmarks/peakgene.py --only speed       # 20,000 genes x 100,000 peaks x 500 units, window 500 kb
    python benchmarks/peakgene.py --only snare --seeds 3 --folder DIR    # mouse cortex, pairing hidden from training
    python benchmarks/peakgene.py --only glue --seeds 3 --folder DIR     # the same pairs by GLUE's regulatory scores
    python benchmarks/peakgene.py --only archr       # blood, from a fragments file
    python benchmarks/peakgene.py --only large       # 100,000 cells x 150,000 peaks: does all stay sparse?

The speed is that of everything after the units' values are there: pairs, correlations, background, p-values, rank
correlations; on random values, since the work does not depend on them. On real cells (`--data`) the links through the
unpaired path are compared with those from the true pairs, beside gene activity in place of imputed expression, plain
distance and GLUE, and a fragments file is brought to links: see peakgene_real.py. What is in `--folder` already is gone
on with. Results: benchmarks/peakgene.json.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import driving
import peakgene_large as scale
import peakgene_real as real
import peers

HERE = Path(__file__).resolve().parent


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


def main() -> None:
    """Measure what is asked for and keep the other parts of the file as they are."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", choices=["speed", "snare", "glue", "archr", "large"])
    parser.add_argument("--data", type=Path, default=HERE.parents[1] / "shared" / "data", help="the published data")
    parser.add_argument("--folder", type=Path, help="where runs on real cells are kept and gone on with")
    parser.add_argument("--seeds", type=int, default=1)
    parser.add_argument("--genes", type=int, default=20_000)
    parser.add_argument("--peaks", type=int, default=100_000)
    parser.add_argument("--units", type=int, default=500)
    parser.add_argument("--large-cells", type=int, default=100_000)
    parser.add_argument("--large-peaks", type=int, default=150_000)
    parser.add_argument("--large-counts", type=int, default=2500, help="counts of a cell")
    parser.add_argument("--window", type=int, default=500_000)
    parser.add_argument("--integrate", default="", help="options of `scmodal integrate`, in one string")
    parser.add_argument(
        "--environments", type=Path, default=peers.default_environments(), help="GLUE: folder of the environments"
    )
    parser.add_argument("--reach", type=int, default=150_000, help="GLUE: base pairs up to which it links peaks")
    parser.add_argument("--epochs", type=int, help="GLUE: of each of its trainings (its own number)")
    parser.add_argument("--minutes", type=float, help="GLUE: at most for each of its trainings (no limit)")
    parser.add_argument("--threads", type=int, default=2, help="GLUE: CPU threads")
    parser.add_argument("--limit", type=float, default=6 * 3600, help="GLUE: seconds after which it is stopped")
    parser.add_argument("--output", type=Path, default=HERE / "peakgene.json")
    given = parser.parse_args()

    def asked(part: str) -> bool:
        return given.only in (None, part)

    if given.only not in ("speed", "large") and not given.data.is_dir():
        sys.exit(f"{given.data}: no such folder; name the one with the published data sets by --data")
    with tempfile.TemporaryDirectory() as place:
        folder = given.folder or Path(place)
        if asked("speed"):
            found = speed(given.genes, given.peaks, given.units, given.window)
            keep(given.output, "speed", {"machine": driving.machine(), **found})
        if asked("glue"):
            keep(given.output, "glue", real.glue(given.data, folder / "glue", given))
        if asked("snare") or asked("glue"):
            rows = []
            for seed in range(given.seeds):
                own = folder / f"snare_{seed}"
                rows.append(real.snare(seed, given.data, own, given.integrate.split(), folder / "glue"))
                keep(given.output, "snare_cortex", rows)
        if asked("large"):
            found = scale.large(folder / "large", given.large_cells, given.large_peaks, given.large_counts)
            keep(given.output, "large", {"machine": driving.machine(), **found})
        if given.integrate:
            keep(given.output, "integrate", given.integrate)
        if asked("archr"):
            keep(given.output, "archr_pbmc_tiny", real.archr(given.data, folder / "archr", given.integrate.split()))


def keep(path: Path, part: str, found: Any) -> None:
    """Put one part into the file."""
    results = json.loads(path.read_text()) if path.exists() else {}
    results[part] = found
    path.write_text(json.dumps(results, indent=2) + "\n")
    print(part, json.dumps(found, indent=2), flush=True)


if __name__ == "__main__":
    main()
