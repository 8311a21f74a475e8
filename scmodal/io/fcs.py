"""Files of flow and mass cytometers."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from ..contracts import InputError
from .modality import from_anndata
from .names import repeated_names
from .wording import only_cytometry, reading, some

if TYPE_CHECKING:
    from anndata import AnnData


def flow_data(path: Path, name: str, only_text: bool = False) -> Any:
    """A whole FCS file, or its text segment alone, as flowio gives it."""
    import flowio

    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return flowio.FlowData(str(path), only_text=only_text)
    except flowio.exceptions.MultipleDataSetsError as exc:
        raise InputError(f"{name}: FCS file with several data sets; export one file per data set") from exc
    except (
        flowio.exceptions.FlowIOException,
        OSError,
        EOFError,
        ValueError,
        KeyError,
        TypeError,
        IndexError,
        NotImplementedError,
        UnicodeDecodeError,
    ) as exc:
        raise InputError(f"{name}: FCS file that cannot be read ({exc}); export it again") from exc


def read_fcs(path: Path, modality: str, name: str) -> AnnData:
    """Events x channels, each channel named by its marker where it has one."""
    from anndata import AnnData

    only_cytometry(modality, name)
    flow = flow_data(path, name)
    with reading(name, "FCS"):
        events = flow.as_array(preprocess=True)
    channels = [str(c).strip() for c in flow.pnn_labels]
    markers = [str(m).strip() or c for m, c in zip(flow.pns_labels, channels)]
    repeated = set(repeated_names(pd.Index(markers)))
    # Two channels of one marker name (often the area and the height of one dye) are told apart by the channel.
    labels = [f"{m} {c}" if m in repeated and m != c else m for m, c in zip(markers, channels)]
    notes = [
        f"FCS {flow.version}: {events.shape[0]:,} events, {events.shape[1]} channels, markers named by $PnS else $PnN."
    ]
    if repeated:
        notes.append(f"Markers in several channels were named with their channel: {some(sorted(repeated))}.")
    if any(key in flow.text for key in ("spill", "spillover", "$spillover", "comp")):
        notes.append("The compensation matrix in the file was not applied: the values are used as they are.")
    adata = AnnData(
        X=events,
        obs=pd.DataFrame(index=pd.Index([f"event{i + 1}" for i in range(events.shape[0])], dtype=object)),
        var=pd.DataFrame({"channel": np.array(channels, dtype=object)}, index=pd.Index(labels, dtype=object)),
    )
    adata.uns["instrument"] = str(flow.text.get("cyt", ""))
    return from_anndata(adata, modality, name, messages=notes, number_duplicates=True)
