"""Make assets/testdata from the CITE-seq file inside the PyPI wheel of scmidas 0.3.0.

Usage: ``.venv/bin/python scripts/make_testdata.py [--wheel scmidas-0.3.0-py3-none-any.whl]``. Without a wheel it is
downloaded by pip. The same wheel gives the same files, byte for byte.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path

import anndata as ad
import h5py
import mudata
import numpy as np
import pandas as pd
import scipy.sparse as sp

WHEEL = "scmidas==0.3.0"
FILE = "scmidas/data/quickstart_pbmc_mosaic.h5mu"
TARGET = Path(__file__).resolve().parents[1] / "assets" / "testdata"

README = """\
# Test data

`rna.h5ad` (1,200 cells x 500 genes) and `adt.h5ad` (1,200 cells x 224 surface proteins): raw counts of human blood
cells by CITE-seq, a subset of the data of Hao et al. 2021 ("Integrated analysis of multimodal single-cell data", Cell
184, 3573-3587). 800 cells are in both files under the same name, 400 only in the first and 400 only in the second.
`obs` has `celltype` (8 types) and `batch` (4 batches). The samplesheet integrates the two files as if no cell were
shared; the pairing is used only to measure the result.

Origin: `quickstart_pbmc_mosaic.h5mu` in the Python package scmidas 0.3.0 (labomics/midas), which is under the MIT
licence in `LICENSE-midas.txt`. `scripts/make_testdata.py` makes these files from that package.
"""

SHEET = """\
sample,modality,path,label_key,batch_key
pbmc,rna,rna.h5ad,celltype,
pbmc,protein,adt.h5ad,celltype,
"""


def download(folder: Path) -> Path:
    """The wheel, fetched by pip."""
    command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--dest", str(folder), WHEEL]
    subprocess.run(command, check=True)
    return next(folder.glob("scmidas-*.whl"))


def small(adata: ad.AnnData) -> ad.AnnData:
    """Only what the pipeline reads: counts as sparse integers, names, cell types and batches."""
    counts = sp.csr_matrix(adata.X)
    counts.eliminate_zeros()
    counts.sort_indices()
    if counts.data.min() < 0 or counts.data.max() > np.iinfo(np.uint16).max or (counts.data % 1).any():
        raise SystemExit("the file in the wheel does not hold counts")
    obs = pd.DataFrame({key: adata.obs[key].astype(str).astype("category") for key in ("celltype", "batch")})
    parts = (counts.data.astype(np.uint16), counts.indices.astype(np.int32), counts.indptr.astype(np.int32))
    return ad.AnnData(
        sp.csr_matrix(parts, counts.shape),
        obs=obs.set_axis(adata.obs_names.astype(str)),
        var=pd.DataFrame(index=adata.var_names.astype(str)),
    )


def main() -> None:
    """Write every file of the folder."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--wheel", type=Path)
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        wheel = parser.parse_args().wheel or download(folder)
        with zipfile.ZipFile(wheel) as archive:
            data = mudata.read_h5mu(archive.extract(FILE, folder))
            licence = next(name for name in archive.namelist() if name.endswith("licenses/LICENSE"))
            licence_text = archive.read(licence).decode()
        TARGET.mkdir(parents=True, exist_ok=True)
        for modality, name in (("rna", "rna.h5ad"), ("adt", "adt.h5ad")):
            small(data[modality]).write_h5ad(TARGET / name, compression="gzip", compression_opts=9)
            with h5py.File(TARGET / name) as file:
                print(f"{name}: {file['X'].attrs['shape']}, {(TARGET / name).stat().st_size / 2**20:.2f} MiB")
    (TARGET / "LICENSE-midas.txt").write_text(licence_text)
    (TARGET / "README.md").write_text(README)
    (TARGET / "samplesheet.csv").write_text(SHEET)


if __name__ == "__main__":
    main()
