"""The report: one HTML file a sample that opens in any browser without a network.

Charts are drawn as SVG here; only the scatter plots, which have thousands of points, are drawn by the page's own small
script on a canvas. No plotting library is in the file, so it is small, prints, and needs neither WebGL nor a server.
"""

from __future__ import annotations

import base64
import hashlib
import os
from collections.abc import Mapping, Sequence
from datetime import date as Date
from importlib.resources import files
from pathlib import Path
from typing import TYPE_CHECKING, Any

from scmodal._version import __version__

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["build_report"]


def build_report(
    sample: str,
    runs: Sequence[str | Path],
    coverage: pd.DataFrame | str | Path | None = None,
    evaluations: Sequence[Mapping[str, Any] | str | Path] = (),
    transfers: Sequence[str | Path] = (),
    imputed: Sequence[str | Path] = (),
    params: Mapping[str, Any] | str | Path | None = None,
    *,
    output: str | Path,
    multiqc_dir: str | Path | None = None,
    date: str | None = None,
    peakgene: Sequence[str | Path] = (),
    selection: Mapping[str, Any] | str | Path | None = None,
) -> None:
    """Write the report of one sample.

    Parameters
    ----------
    sample
        Name of the sample.
    runs
        Result folders of ``scmodal integrate``, one a seed. Pictures are those of the chosen one, else of the first.
    coverage
        Link coverage: table or TSV file of ``scmodal link``.
    evaluations
        ``metrics.json`` of ``scmodal evaluate`` (content or file), one a seed.
    transfers, imputed
        Files of ``scmodal transfer`` and ``scmodal impute``, named ``<anything>.<from>_to_<to>.labels.tsv`` and
        ``<anything>.<from>_to_<to>.h5ad``; the first of each direction is used.
    params
        Parameters of the run to list: mapping or JSON file.
    output
        HTML file to write.
    multiqc_dir
        Folder for MultiQC sections; none are written without it.
    date
        Date to print, by default today. It is all that differs between two reports of the same files.
    peakgene
        Folders of ``scmodal peakgene``, one a seed; that of the chosen seed, else the first, is shown.
    selection
        ``selection.json`` of ``scmodal select`` (content or file).

    Raises
    ------
    InputError
        Files that are missing, or whose names or contents are not those of a result, all at once; an output that
        cannot take its name.
    """
    from jinja2 import Environment, StrictUndefined
    from markupsafe import Markup

    from scmodal.io import atomic_path, check_outputs
    from scmodal.report.coverage import count_links, coverage_section
    from scmodal.report.imputation import imputation_section
    from scmodal.report.keynumbers import key_numbers, seeds_table
    from scmodal.report.labels import labels_section
    from scmodal.report.latent import latent_section
    from scmodal.report.losses import training_section
    from scmodal.report.page import join_words
    from scmodal.report.peakgene import peakgene_section
    from scmodal.report.provenance import messages_section, methods_section, settings_section
    from scmodal.report.reading import read_report_data
    from scmodal.report.verdict import verdict_section

    given = [coverage, params, selection, *evaluations, *transfers, *imputed]
    check_outputs(output, folders=[multiqc_dir], inputs=[item for item in given if isinstance(item, str | os.PathLike)])
    data = read_report_data(sample, runs, coverage, evaluations, transfers, imputed, params, peakgene, selection)
    numbers = key_numbers(data)
    links = peakgene_section(data)
    verdict = verdict_section(data)
    sections = [
        *([] if verdict is None else [verdict]),
        latent_section(data),
        labels_section(data),
        imputation_section(data),
        *([] if links is None else [links]),
        coverage_section(data),
        training_section(data),
        messages_section(data),
        settings_section(data),
        methods_section(data),
    ]
    preset = data.runs[0].model.get("preset")
    seeds = [str(r.seed) for r in data.runs if r.seed is not None]
    facts = [
        f"preset {preset['name']}" if isinstance(preset, Mapping) and preset.get("name") else "",
        f"topology {data.topology}" if len(data.modalities) > 2 else "",
        f"seed{'s' if len(seeds) > 1 else ''} {join_words(seeds)}" if seeds else "",
        f"scmodal {data.runs[0].model.get('scmodal_version') or __version__}",
        date or Date.today().isoformat(),
    ]
    folder = files("scmodal.report")
    script = folder.joinpath("report.js").read_text(encoding="utf-8")
    digest = base64.b64encode(hashlib.sha256(script.encode("utf-8")).digest()).decode("ascii")
    environment = Environment(autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)
    page = environment.from_string(folder.joinpath("report.html").read_text(encoding="utf-8")).render(
        sample=sample,
        headline=f"{' + '.join(m.title for m in data.modalities)}, "
        f"{' + '.join(f'{len(m.cells):,}' for m in data.modalities)} cells",
        facts=[f for f in facts if f],
        verdict=data.selection.get("verdict", ""),
        numbers=numbers,
        seeds=seeds_table(data, numbers),
        sections=sections,
        style=Markup(folder.joinpath("report.css").read_text(encoding="utf-8")),
        script=Markup(script),
        script_digest=digest,
    )
    target = Path(output)
    target.parent.mkdir(parents=True, exist_ok=True)
    with atomic_path(target) as temporary:
        temporary.write_text(page, encoding="utf-8")
    if multiqc_dir is not None:
        from scmodal.report.multiqc import write_multiqc

        write_multiqc(data, numbers, count_links(data), Path(multiqc_dir))
