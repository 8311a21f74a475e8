"""Draw the figures of the README from a finished run.

Usage: ``python scripts/make_figures.py results/demo docs/images``.
"""

from __future__ import annotations

import sys
from pathlib import Path

from scmodal.io import read_h5mu
from scmodal.plots import latent_figure


def main(outdir: Path, images: Path) -> None:
    """One picture of the latent space for each sample of the run."""
    images.mkdir(parents=True, exist_ok=True)
    for path in sorted(outdir.glob("*/integrate/integrated.h5mu")):
        mdata = read_h5mu(path)
        label_key = next((key for a in mdata.mod.values() if (key := a.uns["scmodal"]["label_key"])), None)
        latent_figure(mdata, label_key, images / f"{path.parts[-3]}.png")


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
