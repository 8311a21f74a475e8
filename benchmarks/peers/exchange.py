"""How a peer's runner gets the prepared data and gives back its latents; standard library, numpy and anndata only.

    python run_NAME.py FOLDER SEED THREADS

FOLDER holds ``first.h5ad`` and ``second.h5ad`` (counts in ``layers["counts"]``, log-normalised values in ``X``; no
cell annotation, cells of the second in random order), ``links.tsv``, ``linked.npz`` (`first` and `second`, the scaled
values of the linked features, one column a link) and, for chromatin, ``peaks.h5ad`` (the second's cells x peaks);
``inputs.npz`` (`first`, `second`: the scaled input of preset `paper`, cells x columns, one column a link first) where
the runner is to have it; ``asked.json`` where something other than the runner's own settings is asked for, or more than
the latents. The runner writes ``latents.npz`` (`first`, `second`: cells x dimensions), where it was given inputs
``imputed.npz`` (`first`: the second's columns in the cells of the first, `second`: the reverse), and ``used.json``
(what it used, its peak memory).
"""

from __future__ import annotations

import csv
import json
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np


@dataclass(frozen=True)
class Task:
    """What one run is about."""

    folder: Path
    seed: int
    threads: int

    @classmethod
    def from_arguments(cls) -> Task:
        """From the command line."""
        folder, seed, threads = sys.argv[1:]
        return cls(Path(folder), int(seed), int(threads))

    def data(self, name: str) -> Any:
        """AnnData `first`, `second` or `peaks`."""
        import anndata

        return anndata.read_h5ad(self.folder / f"{name}.h5ad")

    def has_peaks(self) -> bool:
        """Whether the second data set is chromatin."""
        return (self.folder / "peaks.h5ad").exists()

    def asked(self) -> dict[str, Any]:
        """What is asked for beyond the latents with the runner's own settings."""
        path = self.folder / "asked.json"
        return dict(json.loads(path.read_text())) if path.exists() else {}

    def links(self) -> list[tuple[str, str]]:
        """Linked features of the first and of the second data set."""
        with (self.folder / "links.tsv").open(newline="") as lines:
            return [(row["first"], row["second"]) for row in csv.DictReader(lines, delimiter="\t")]

    def linked(self) -> tuple[np.ndarray, np.ndarray]:
        """Scaled linked columns of both."""
        with np.load(self.folder / "linked.npz") as stored:
            return stored["first"], stored["second"]

    @staticmethod
    def peak_gb() -> float:
        """Peak memory of this process, GB; that of the process that started it does not count."""
        status = Path("/proc/self/status")
        if status.exists():
            line = next(line for line in status.read_text().splitlines() if line.startswith("VmHWM"))
            return int(line.split()[1]) * 1024 / 1e9
        import resource

        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e9  # bytes on macOS

    def finish(self, first: Any, second: Any, **used: Any) -> None:
        """Write the latents and what was used."""
        np.savez(self.folder / "latents.npz", first=np.asarray(first), second=np.asarray(second))
        (self.folder / "used.json").write_text(json.dumps({"peak_gb": self.peak_gb(), **used}))
