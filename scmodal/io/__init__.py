"""Readers for the files people have, and writers that leave either a whole file or none.

Every reader gives the same thing: an AnnData of one modality with cells in rows, raw counts in ``X`` and
``layers["counts"]`` (cytometry: intensities in ``X`` alone) and, in ``uns["scmodal"]``, where the counts were found
and what was noticed on the way. anndata, mudata and flowio are imported where they are used, so that checking a
samplesheet does not wait for them.
"""

from scmodal.io.contents import Contents, check_file, probe
from scmodal.io.counts import find_counts, is_on_disk, matrix_file, one_index_type, to_csr
from scmodal.io.kinds import BARCODE, ENSEMBL_ID, HDF5_MAGIC, INTERVAL, beginning, open_text, sniff
from scmodal.io.modality import Checked, from_anndata
from scmodal.io.names import SYMBOL_COLUMNS, symbol_column
from scmodal.io.reading import read_modality
from scmodal.io.stored import (
    COPIES,
    IN_MEMORY_GB,
    MEMORY_VARIABLE,
    PEAKS,
    in_memory_limit,
    open_counts,
    read_h5mu,
    read_prepared,
)
from scmodal.io.wording import FEATURE_TYPES, as_text, missing_key, reading, some
from scmodal.io.writing import (
    DISK_ERRORS,
    atomic_path,
    check_outputs,
    check_writable,
    copy_stored,
    mudata_options,
    plain,
    read_json,
    write_h5ad,
    write_h5ad_blocks,
    write_h5mu,
    write_json,
    write_parquet,
    write_tsv,
)

__all__ = [
    "BARCODE",
    "COPIES",
    "DISK_ERRORS",
    "ENSEMBL_ID",
    "FEATURE_TYPES",
    "HDF5_MAGIC",
    "INTERVAL",
    "IN_MEMORY_GB",
    "MEMORY_VARIABLE",
    "PEAKS",
    "SYMBOL_COLUMNS",
    "Checked",
    "Contents",
    "as_text",
    "atomic_path",
    "beginning",
    "check_file",
    "check_outputs",
    "check_writable",
    "copy_stored",
    "find_counts",
    "from_anndata",
    "in_memory_limit",
    "is_on_disk",
    "matrix_file",
    "missing_key",
    "mudata_options",
    "one_index_type",
    "open_counts",
    "open_text",
    "plain",
    "probe",
    "read_h5mu",
    "read_json",
    "read_modality",
    "read_prepared",
    "reading",
    "sniff",
    "some",
    "symbol_column",
    "to_csr",
    "write_h5ad",
    "write_h5ad_blocks",
    "write_h5mu",
    "write_json",
    "write_parquet",
    "write_tsv",
]
