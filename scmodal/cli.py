"""The command line: a command parses its options, calls one function and writes the result.

Heavy packages are imported inside the commands: ``--help`` and ``--version`` stay instant.
"""

from __future__ import annotations

import contextlib
import os
import sys
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from scmodal._version import __version__
from scmodal.contracts import DataError, InputError

if TYPE_CHECKING:
    from scmodal.training import Progress

PATH = click.Path(path_type=Path)
TOPOLOGY_HELP = (
    "Data sets to match: chain (neighbours in the order given), star (the first with every other), all (every two)."
)

ACTIVITY_HELP = "ATAC: body (peaks in the gene and 2 kb upstream) or weighted (further ones, too, with less weight)."


def say(message: str) -> None:
    """One line to the log (standard error)."""
    click.echo(message, err=True)


@click.group(context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.version_option(__version__, prog_name="scmodal", message="%(prog)s %(version)s")
def cli() -> None:
    """Put single-cell data sets of different modalities, measured on different cells, into one latent space."""


def main(arguments: list[str] | None = None) -> None:
    """Run the command line; every way to fail has its exit code (2 input, 3 data, 1 a defect of this program)."""
    # Threads that wait give their core away: with another task on the same cores, spinning costs half of the speed.
    # Has to be set before torch is imported.
    os.environ.setdefault("OMP_WAIT_POLICY", "passive")
    try:
        cli.main(args=arguments, prog_name="scmodal", standalone_mode=False)
    except click.exceptions.Abort:
        say("Stopped.")
        sys.exit(130)
    except click.ClickException as error:
        error.show()
        sys.exit(2)
    except InputError as error:
        say(_problem_list(error.problems))
        sys.exit(InputError.exit_code)
    except DataError as error:
        say(f"These data cannot be used as they are: {error}")
        sys.exit(DataError.exit_code)
    except Exception:  # the last resort: whatever arrives here is a defect, and the trace is what a report needs
        traceback.print_exc()
        say("\nThis is a defect of scmodal, not of your input. Please report it with the lines above.")
        sys.exit(1)


def _problem_list(problems: list[str]) -> str:
    if len(problems) == 1:
        return f"Error: {problems[0]}"
    return "\n".join([f"Error: {len(problems)} problems", *(f"  - {problem}" for problem in problems)])


def _training_progress() -> tuple[Progress, Callable[[], None]]:
    """Progress bar in a terminal, a plain line now and then in a log; and the function that ends it."""
    import time

    if sys.stderr.isatty():
        from rich.console import Console
        from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeRemainingColumn
        from rich.progress import Progress as RichProgress

        bar = RichProgress(
            TextColumn("training"),
            BarColumn(),
            MofNCompleteColumn(),
            TimeRemainingColumn(),
            TextColumn("{task.fields[losses]}"),
            console=Console(stderr=True),
        )
        task = bar.add_task("training", total=None, losses="")
        bar.start()

        def advance(step: int, total: int, losses: dict[str, float]) -> None:
            bar.update(task, completed=step, total=total, losses=_short(losses))

        return advance, bar.stop

    start = time.monotonic()
    last = [start]

    def line(step: int, total: int, losses: dict[str, float]) -> None:
        now = time.monotonic()
        if now - last[0] >= 5 or step == total:
            last[0] = now
            left = (now - start) / step * (total - step)
            say(f"step {step:>6} of {total}  {now - start:5.0f} s, {left:5.0f} s left  {_short(losses)}")

    return line, lambda: None


def _short(losses: dict[str, float]) -> str:
    return (
        f"autoencoder {losses['loss_autoencoder']:.3f}  discriminator {losses['loss_discriminator']:.2f}  "
        f"anchors {losses['n_anchors']:.0f}"
    )


# ---- commands ------------------------------------------------------------------------------------------------------


@cli.command()
@click.option("--input", "sheet", type=PATH, required=True, help="Samplesheet (CSV or TSV).")
@click.option("--file", "files", multiple=True, metavar="ROW=PATH", help="Local copy of the file of a row (from 1).")
@click.option("--check-files/--no-check-files", default=True, help="Open every local file and look into it.")
@click.option(
    "--model", "model_path", type=PATH, help="model/ folder: the files are new cells for it, one row is enough."
)
@click.option("--genes", type=PATH, help="Genes for ATAC peaks and fragments: checked, too.")
@click.option("--label-key", help="Column of obs with cell labels, for rows of the samplesheet that name none.")
@click.option("--batch-key", help="Column of obs with batches, for rows of the samplesheet that name none.")
@click.option("--output", type=PATH, help="Samplesheet with canonical names and the order of the data sets.")
def validate(
    sheet: Path,
    files: tuple[str, ...],
    check_files: bool,
    model_path: Path | None,
    genes: Path | None,
    label_key: str | None,
    batch_key: str | None,
    output: Path | None,
) -> None:
    """Check a samplesheet and its files; tell every problem at once."""
    from scmodal.contracts import read_samplesheet, write_samplesheet
    from scmodal.io import check_outputs

    check_outputs(output, inputs=[sheet, genes])
    staged: dict[int, Path] | None = None
    if files:
        staged = {}
        for item in files:
            row, _, path = item.partition("=")
            if not row.isdigit() or not path:
                raise InputError(f"--file {item!r}: expected ROW=PATH, for example 1=rna.h5ad")
            staged[int(row)] = Path(path)
    modalities = None
    if model_path is not None:
        from scmodal.contracts import model_modalities

        modalities = model_modalities(model_path)
    rows = read_samplesheet(
        sheet,
        files=staged,
        check_files=check_files,
        new_cells_of=modalities,
        genes=genes or False,
        label_key=label_key,
        batch_key=batch_key,
        say=say,
    )
    if output is not None:
        write_samplesheet(rows, output)
    samples = dict.fromkeys(row.sample for row in rows)
    say(f"{sheet}: {len(rows)} data sets of {len(samples)} sample(s): all fine.")


@cli.command()
@click.option("--input", "inputs", type=PATH, required=True, multiple=True, help="Data file; several are joined.")
@click.option("--modality", required=True, help="rna, protein, atac, cytometry (or gex, adt, peaks, ...).")
@click.option("--label-key", help="Column of obs with cell labels.")
@click.option("--batch-key", help="Column of obs with batches or donors.")
@click.option("--n-top-genes", type=click.IntRange(0), default=3000, show_default=True, help="Variable genes to rank.")
@click.option("--links", "table", type=PATH, help="Your own table of links; its features are kept.")
@click.option(
    "--cofactor",
    type=click.FloatRange(0, min_open=True),
    help="Cytometry: take arcsinh(value / cofactor); by default told from the values and channels.",
)
@click.option("--genes", type=PATH, help="ATAC: the genes of the genome (GTF, or BED with symbol and strand).")
@click.option("--genome", default="", help="ATAC: name of the genome build; it is noted, nothing else.")
@click.option("--gene-activity", default="body", show_default=True, help=ACTIVITY_HELP)
@click.option("--peaks", type=PATH, help="ATAC fragments: peaks to count (BED); tiles of 5 kb without it.")
@click.option("--cells", type=PATH, help="ATAC fragments: the cells (.h5ad, or a table with barcodes first).")
@click.option(
    "--min-fragments", type=click.IntRange(1), default=1000, show_default=True, help="ATAC: of a cell, without --cells."
)
@click.option("--check-build/--no-check-build", default=True, help="ATAC: refuse genes of another genome build.")
@click.option("--output", type=PATH, required=True, help="Prepared data set (.h5ad).")
def preprocess(
    inputs: tuple[Path, ...],
    modality: str,
    label_key: str | None,
    batch_key: str | None,
    n_top_genes: int,
    table: Path | None,
    cofactor: float | None,
    genes: Path | None,
    genome: str,
    gene_activity: str,
    peaks: Path | None,
    cells: Path | None,
    min_fragments: int,
    check_build: bool,
    output: Path,
) -> None:
    """Find the counts, normalise, rank the variable genes."""
    from scmodal.chromatin import AtacOptions
    from scmodal.contracts import canonical_modality
    from scmodal.io import check_outputs
    from scmodal.preprocess import preprocess_to_file

    check_outputs(h5ad=output, inputs=[*inputs, table, genes, peaks, cells])
    linked = None
    if table is not None:
        from scmodal.links import LinkTable

        frame = LinkTable.read(table).frame
        linked = {*frame["feature_a"], *frame["feature_b"]}
    adata = preprocess_to_file(
        list(inputs),
        canonical_modality(modality),
        output,
        label_key,
        batch_key,
        n_top_genes,
        linked_features=linked,
        atac_options=AtacOptions(
            genes, genome, peaks, cells, min_fragments, gene_activity=gene_activity, check_build=check_build
        ),
        cofactor=cofactor,
    )
    for message in adata.uns["scmodal"]["messages"]:
        say(str(message))
    say(f"{output}: {adata.n_obs} cells x {adata.n_vars} features")


@cli.command()
@click.option("--input", "inputs", type=PATH, required=True, multiple=True, help="Prepared data set, in chain order.")
@click.option("--table", type=PATH, help="Your own links (feature_a, feature_b, ...); replaces the built-in names.")
@click.option("--topology", default="chain", show_default=True, help=TOPOLOGY_HELP)
@click.option("--output", type=PATH, required=True, help="Links (TSV).")
@click.option("--coverage", "coverage_path", type=PATH, help="What matched and what did not (TSV).")
@click.option("--summary", type=PATH, help="The same in numbers (JSON).")
def link(
    inputs: tuple[Path, ...],
    table: Path | None,
    topology: str,
    output: Path,
    coverage_path: Path | None,
    summary: Path | None,
) -> None:
    """Pair the features that are known to vary together."""
    from scmodal.presets import pairs_of

    pairs_of(topology, len(inputs))  # a wrong name is told before anything heavy is loaded

    from scmodal.inputs import modality_of
    from scmodal.io import check_outputs, read_prepared, write_json, write_tsv
    from scmodal.links import LinkTable, build_links, coverage_summary, coverage_text

    check_outputs(output, coverage_path, summary, inputs=[*inputs, table])
    adatas = [read_prepared(path, peaks=False) for path in inputs]
    own = LinkTable.read(table, [modality_of(adata) for adata in adatas]) if table is not None else None
    links, coverage = build_links(adatas, own, topology)
    links.write(output)
    if coverage_path is not None:
        write_tsv(coverage, coverage_path)
    if summary is not None:
        write_json(coverage_summary(coverage, links), summary)
    say(coverage_text(coverage, links))


def _settings(pairs: tuple[str, ...]) -> dict[str, str]:
    settings = {}
    for pair in pairs:
        name, equals, value = pair.partition("=")
        if not equals:
            raise InputError(f"--set {pair!r}: expected NAME=VALUE, for example input_dropout=0.5")
        settings[name.strip()] = value.strip()
    return settings


@cli.command()
@click.option("--input", "inputs", type=PATH, required=True, multiple=True, help="Prepared data set, in chain order.")
@click.option("--links", "links_path", type=PATH, help="Links from `scmodal link`; built-in names without it.")
@click.option("--output", type=PATH, required=True, help="Folder for the result.")
@click.option("--preset", default="default", show_default=True, help="default, or paper (the published settings).")
@click.option("--seed", type=click.IntRange(0), default=0, show_default=True)
@click.option("--device", default="auto", show_default=True, help="auto, cpu, cuda, cuda:N or mps.")
@click.option("--steps", type=int, help="Training steps (the preset's).")
@click.option("--batch-size", type=int, help="Cells of each data set in a step (the preset's).")
@click.option("--topology", help=TOPOLOGY_HELP + " The one that the links were made with (the preset's).")
@click.option("--threads", type=click.IntRange(1), help="CPU threads (all).")
@click.option("--set", "settings", multiple=True, metavar="NAME=VALUE", help="Change a setting of the preset.")
@click.option(
    "--anndata", is_flag=True, help="Also OUTPUT/latent.h5ad (all cells, obsm['X_emb']) and OUTPUT/X_scmodal.parquet."
)
@click.option("--checkpoint", type=PATH, help="File to keep checkpoints in (OUTPUT.checkpoint.safetensors).")
@click.option(
    "--checkpoint-every",
    type=click.FloatRange(0),
    default=300,
    show_default=True,
    metavar="SECONDS",
    help="Time between two checkpoints; one is also written on SIGTERM, SIGINT and SIGUSR1.",
)
@click.option(
    "--resume",
    "resume",
    flag_value="yes",
    help="Go on from the checkpoint; none, or one that does not fit, is an error.",
)
@click.option("--no-resume", "resume", flag_value="no", help="Start anew (the default).")
@click.option(
    "--resume-or-restart", "resume", flag_value="auto", help="Go on from the checkpoint if it fits, else start anew."
)
def integrate(
    inputs: tuple[Path, ...],
    links_path: Path | None,
    output: Path,
    preset: str,
    seed: int,
    device: str,
    steps: int | None,
    batch_size: int | None,
    topology: str | None,
    threads: int | None,
    settings: tuple[str, ...],
    anndata: bool,
    checkpoint: Path | None,
    checkpoint_every: float,
    resume: str | None,
) -> None:
    """Train, and write the joint latent space with everything needed to use it.

    An interrupted training leaves a checkpoint, from which the same command with --resume goes on.
    """
    from scmodal.presets import get_preset

    own = {"steps": steps, "batch_size": batch_size, "topology": topology}
    changes = _settings(settings)
    twice = [f"--{name.replace('_', '-')}" for name, value in own.items() if value is not None and name in changes]
    if twice:
        raise InputError(f"{', '.join(twice)} given as an option and by --set: leave out one of the two")
    chosen = get_preset(preset, **{**changes, **{name: value for name, value in own.items() if value is not None}})

    from scmodal.checkpoint import Interrupted
    from scmodal.io import atomic_path, check_outputs, check_writable, read_prepared
    from scmodal.links import LinkTable
    from scmodal.model import ScModal, pick_device
    from scmodal.results import LATENT_CELLS, write_latent_cells, write_run

    if checkpoint is None:
        whole = Path(os.path.abspath(output))  # also where the folder is given as `.`
        checkpoint = whole.with_name(f"{whole.name}.checkpoint.safetensors")
    if resume == "yes" and not checkpoint.exists():
        raise InputError(
            f"--resume: there is no checkpoint {checkpoint}; give the one there is (--checkpoint), or "
            "--resume-or-restart, which starts anew where there is none"
        )
    check_outputs(folders=[output])
    if resume != "auto":  # there, a place that takes no checkpoint is only told
        check_writable(checkpoint.parent)
    found = pick_device(device)
    if device == "auto":
        say(f"--device auto: {found.type}" + (", for torch finds no CUDA device here" if found.type == "cpu" else ""))
    adatas = [read_prepared(path, peaks=False) for path in inputs]
    links = LinkTable.read(links_path) if links_path is not None else None
    model = ScModal(chosen, seed=seed, device=device, threads=threads)
    advance, end = _training_progress()
    try:
        model.fit(
            adatas,
            links,
            progress=advance,
            checkpoint=checkpoint,
            checkpoint_every=checkpoint_every,
            resume="auto" if resume == "auto" else resume == "yes",
            say=say,
        )
    except Interrupted as stop:
        with contextlib.suppress(BrokenPipeError):  # whoever read the log may have been stopped by the same signal
            say(str(stop))
        sys.exit(stop.exit_code)
    finally:
        end()
    keeper = model.keeper
    try:
        with atomic_path(output, optional=LATENT_CELLS) as temporary:
            write_run(model, adatas, temporary)
            if anndata:
                write_latent_cells(model, adatas, temporary)
    except InputError as error:
        kept = keeper is not None and keeper.owns()
        again = " The trained model is kept: with --resume nothing is trained again." if kept else ""
        raise InputError(
            f"the result cannot be written to {str(output)!r} ({error.__cause__ or error}): free space there, or "
            f"choose another place.{again}"
        ) from error
    if keeper is not None and keeper.owns():  # else the file is of another run, which still needs it
        checkpoint.unlink(missing_ok=True)
    for message in model.messages:
        say(message)
    say(
        f"{output}: {' + '.join(f'{n} {name}' for name, n in model.training['n_cells'].items())} cells, "
        f"{model.training['steps']} steps in {model.training['seconds']:.0f} s on {model.training['device']}"
    )


@cli.command()
@click.option("--model", "model_path", type=PATH, required=True, help="model/ folder of a result.")
@click.option("--from", "source", required=True, help="Modality of the cells.")
@click.option("--to", "target", required=True, help="Modality to predict.")
@click.option("--input", "input_path", type=PATH, required=True, help="Prepared cells of the first modality.")
@click.option("--output", type=PATH, required=True, help="Imputed data (.h5ad).")
@click.option("--device", default="auto", show_default=True, help="auto, cpu, cuda, cuda:N or mps.")
def impute(model_path: Path, source: str, target: str, input_path: Path, output: Path, device: str) -> None:
    """Predict one modality's features for another modality's cells."""
    from scmodal.embed import unlike_training
    from scmodal.impute import impute_to_file
    from scmodal.io import check_outputs, read_prepared
    from scmodal.model import ScModal
    from scmodal.predictability import cannot_be_imputed

    check_outputs(h5ad=output, inputs=[input_path])
    model = ScModal.load(model_path, device=device)
    cells = read_prepared(input_path, peaks=False)
    made = impute_to_file(model, source, target, cells, output)
    for message in unlike_training(model, cells, model.known_modality(source)):
        say(message)
    if "confidence" in cells.obs:
        say("The cells' own column 'confidence' is replaced by that of the imputation.")
    said = cannot_be_imputed(list(made.var_names), made.var["expected_r"].to_numpy(), source, target)
    if said:
        say(said)
    say(f"{output}: {made.n_obs} cells x {made.n_vars} features")


@cli.command()
@click.option("--model", "model_path", type=PATH, required=True, help="model/ folder of a result.")
@click.option("--input", "input_path", type=PATH, required=True, help="New cells: raw data, or a prepared data set.")
@click.option("--modality", required=True, help="Modality of the cells, one that the model has.")
@click.option("--output", type=PATH, required=True, help="The cells with obsm['X_scmodal'] and obsm['X_emb'] (.h5ad).")
@click.option("--table", type=PATH, help="The latent space as a table (Parquet).")
@click.option("--reference", type=PATH, help="integrated.h5mu of the model's run: label the cells from it.")
@click.option("--from", "source", help="Modality of the reference that has the labels (the cells' own, else any).")
@click.option("--label-key", help="Column of its obs with the labels (the one given to preprocess).")
@click.option("--neighbours", type=click.IntRange(1), default=15, show_default=True)
@click.option(
    "--labels", "labels_path", type=PATH, help="Labels (TSV): cell, label, confidence, second_label, entropy."
)
@click.option("--genes", type=PATH, help="ATAC peaks or fragments: the genes that the model's ATAC data had.")
@click.option("--gene-activity", default="body", show_default=True, help="ATAC: as the model's ATAC data had it.")
@click.option("--device", default="auto", show_default=True, help="auto, cpu, cuda, cuda:N or mps.")
def embed(
    model_path: Path,
    input_path: Path,
    modality: str,
    output: Path,
    table: Path | None,
    reference: Path | None,
    source: str | None,
    label_key: str | None,
    neighbours: int,
    labels_path: Path | None,
    genes: Path | None,
    gene_activity: str,
    device: str,
) -> None:
    """Put new cells into the latent space of a trained model."""
    if reference is None and (labels_path or source or label_key):
        raise InputError("--labels, --from and --label-key need --reference: the integrated.h5mu of the model's run")

    from scmodal.chromatin import AtacOptions
    from scmodal.embed import embed_file, embedding_table, label_cells
    from scmodal.io import check_outputs, read_h5mu, write_h5ad, write_parquet, write_tsv
    from scmodal.model import ScModal

    check_outputs(table, labels_path, h5ad=output, inputs=[input_path, reference, genes])
    model = ScModal.load(model_path, device=device)
    adata = embed_file(model, input_path, modality, AtacOptions(genes, gene_activity=gene_activity))
    for message in adata.uns["scmodal"]["messages"]:
        say(str(message))
    if reference is not None:
        labels = label_cells(model, adata, read_h5mu(reference), source, label_key, neighbours)
        say(f"labels from {reference}: mean confidence {labels['confidence'].mean():.2f}")
        for message in labels.attrs["messages"]:
            say(message)
        if labels_path is not None:
            write_tsv(labels, labels_path)
    if table is not None:
        write_parquet(embedding_table(adata), table)
    write_h5ad(adata, output)
    say(f"{output}: {adata.n_obs} cells x {model.preset.n_latent} latent dimensions")


@cli.command()
@click.option("--integrated", type=PATH, required=True, help="integrated.h5mu of a result.")
@click.option("--from", "source", required=True, help="Modality that has the labels.")
@click.option("--to", "target", required=True, help="Modality to label.")
@click.option(
    "--label-key",
    "label_keys",
    multiple=True,
    help="Column of obs with the labels (the one given to preprocess); several make a hierarchy, coarse first.",
)
@click.option("--neighbours", type=click.IntRange(1), default=15, show_default=True)
@click.option(
    "--confidence",
    type=click.Choice(["calibrated", "share"]),
    default="calibrated",
    show_default=True,
    help="Chance that a label is right, or the plain share of the votes.",
)
@click.option(
    "--unknown",
    type=click.FloatRange(0),
    default=0.0,
    show_default=True,
    help="Call cells unknown that have less of a counterpart than this among the labelled: 0.7 is a start; 0: none.",
)
@click.option(
    "--output", type=PATH, required=True, help="Labels (TSV): cell, label, confidence, second_label, entropy."
)
def transfer(
    integrated: Path,
    source: str,
    target: str,
    label_keys: tuple[str, ...],
    neighbours: int,
    confidence: str,
    unknown: float,
    output: Path,
) -> None:
    """Carry cell labels from one modality to another."""
    from scmodal.io import check_outputs, read_h5mu, write_tsv
    from scmodal.transfer import transfer_between

    check_outputs(output, inputs=[integrated])
    labels = transfer_between(
        read_h5mu(integrated),
        source,
        target,
        label_keys,
        neighbours,
        calibrated=confidence == "calibrated",
        unknown=unknown,
    )
    write_tsv(labels, output)
    if confidence == "calibrated" and not labels.attrs["calibrated"]:
        say(
            f"{integrated} has no redrawn latents (it is of an earlier version): the confidence is the plain share of "
            "the votes; `scmodal integrate` writes them"
        )
    for message in labels.attrs["messages"]:
        say(message)
    strange = f", {int(labels.attrs['unknown'].sum())} unknown" if unknown else ""
    sure = "" if labels.attrs["unknown"].all() else f", mean confidence {labels['confidence'].mean():.2f}"
    say(f"{output}: {len(labels)} cells{strange}{sure}")


@cli.command()
@click.option("--rna", type=PATH, required=True, help="Prepared RNA of the integration.")
@click.option("--atac", type=PATH, required=True, help="Prepared ATAC of the integration, with its peaks.")
@click.option("--integrated", type=PATH, required=True, help="integrated.h5mu of a result.")
@click.option("--genes", type=PATH, required=True, help="Gene coordinates: BED or GTF, of the peaks' genome build.")
@click.option("--output", type=PATH, required=True, help="Folder for the links.")
@click.option("--model", "model_path", type=PATH, help="model/ folder (the one beside integrated.h5mu).")
@click.option("--window", type=click.IntRange(1), default=250_000, show_default=True, help="Base pairs around a TSS.")
@click.option(
    "--n-units", type=click.IntRange(10), default=500, show_default=True, help="Units of alike cells, at most."
)
@click.option("--unit-size", type=click.IntRange(1), default=50, show_default=True, help="Cells of a unit.")
@click.option(
    "--max-overlap", type=click.FloatRange(0, 1), default=0.5, show_default=True, help="Cells two units may share."
)
@click.option(
    "--min-cells", type=click.IntRange(1), default=10, show_default=True, help="Cells that a peak must be open in."
)
@click.option(
    "--background", type=click.IntRange(20), default=200, show_default=True, help="Background peaks in each bin."
)
@click.option("--fasta", type=PATH, help="Genome (plain or gzipped): match the background in GC content, too.")
@click.option("--leave-locus-out", is_flag=True, help="Correlations with the locus hidden from the model, too.")
@click.option("--group-key", help="Column of obs (ATAC, else RNA): test within each group of cells, too.")
@click.option("--paired", is_flag=True, help="Cells of the same name are the same cell: correlate measured RNA, too.")
@click.option("--plot-genes", metavar="GENE,GENE", default="", help="Genes whose locus is drawn.")
@click.option("--fdr", type=click.FloatRange(0, 1, min_open=True, max_open=True), default=0.05, show_default=True)
@click.option("--seed", type=click.IntRange(0), default=0, show_default=True)
@click.option("--device", default="auto", show_default=True, help="auto, cpu, cuda, cuda:N or mps.")
def peakgene(
    rna: Path,
    atac: Path,
    integrated: Path,
    genes: Path,
    output: Path,
    model_path: Path | None,
    window: int,
    n_units: int,
    unit_size: int,
    max_overlap: float,
    min_cells: int,
    background: int,
    fasta: Path | None,
    leave_locus_out: bool,
    group_key: str | None,
    paired: bool,
    plot_genes: str,
    fdr: float,
    seed: int,
    device: str,
) -> None:
    """Find peaks that open and close with the imputed expression of the genes near them."""
    from scmodal.io import check_outputs
    from scmodal.peakgene.link import LinkSettings
    from scmodal.peakgene.run import Request, peak_gene

    check_outputs(folders=[output])
    settings = LinkSettings(window, n_units, unit_size, max_overlap, min_cells, background, fdr, seed)
    wanted = [gene.strip() for gene in plot_genes.split(",") if gene.strip()]
    request = Request(leave_locus_out, paired, group_key, wanted, fasta)
    table = peak_gene(rna, atac, integrated, genes, output, settings, request, model_path, device, say)
    own = table[table["group"] == "all"]
    say(f"{output}: {int((own['fdr'] <= fdr).sum()):,} links (FDR {fdr:g}) of {len(own):,} tested pairs")


@cli.command()
@click.option("--integrated", type=PATH, required=True, help="integrated.h5mu of a result.")
@click.option("--model", "model_path", type=PATH, help="model/ folder (the one beside the file).")
@click.option("--paired", is_flag=True, help="Cells of the same name are the same cell.")
@click.option("--label-key", help="Column of obs with the true labels (the one given to preprocess).")
@click.option("--scib", is_flag=True, help="Also iLISI, kBET, ASW, ... of scib-metrics: pip install 'scmodal[bench]'.")
@click.option("--output", type=PATH, required=True, help="Metrics (JSON).")
def evaluate(
    integrated: Path, model_path: Path | None, paired: bool, label_key: str | None, scib: bool, output: Path
) -> None:
    """Measure the integration against what is known."""
    from scmodal.contracts import model_seed
    from scmodal.io import check_outputs, read_h5mu, write_json
    from scmodal.metrics import evaluate as measure

    check_outputs(output, inputs=[integrated])
    mdata = read_h5mu(integrated)
    folder = model_path or integrated.parent / "model"
    model = seed = None
    if model_path is not None or folder.is_dir():
        seed = model_seed(folder)
        if paired:  # else there is nothing to compare imputed values with
            from scmodal.embed import same_run
            from scmodal.model import ScModal
            from scmodal.transfer import LATENT

            model = ScModal.load(folder, device="cpu")
            name = next(iter(model.modalities))
            there = mdata.mod.get(name)
            # what has no latents is told by the measuring
            if there is None or (LATENT in there.obsm and not same_run(model, there, there.obsm[LATENT], name)):
                raise InputError(f"{integrated} is not of the model {folder}: give the model of the same run (--model)")
    elif paired:
        say(f"{folder} is not there: imputation is not measured (give --model)")
    metrics = measure(mdata, paired=paired, label_key=label_key, model=model, seed=seed, scib=scib)
    write_json(metrics, output)
    for line in _metric_lines(metrics):
        say(line)


def _metric_lines(metrics: dict[str, Any]) -> list[str]:
    lines = [f"FOSCTTM {pair.replace('|', ' / ')}: {value:.3f}" for pair, value in metrics.get("foscttm", {}).items()]
    for way, values in metrics.get("label_transfer", {}).items():
        lines.append(f"label transfer {way.replace('_', ' ')}: accuracy {values['accuracy']:.3f}")
    for way, values in metrics.get("imputation", {}).items():
        lines.append(f"imputation {way.replace('_', ' ')}: mean Pearson r {values['pearson_mean']:.3f}")
    for pair, value in metrics["neighbour_mixing"].items():  # the one that needs neither labels nor pairs
        lines.append(f"neighbour mixing {pair.replace('|', ' / ')}: {value:.3f}")
    scores = {name: value for name, value in metrics.get("scib", {}).items() if not name.startswith("n_")}
    if scores:
        lines.append("scib-metrics: " + ", ".join(f"{name} {value:.3f}" for name, value in scores.items()))
    return lines


@cli.command()
@click.option("--run", "runs", type=PATH, required=True, multiple=True, help="Result folder; several seeds, several.")
@click.option("--input", "inputs", type=PATH, required=True, multiple=True, help="Prepared data set, in chain order.")
@click.option("--links", "links_path", type=PATH, help="Links of the runs; built-in names without it.")
@click.option("--output", type=PATH, required=True, help="Verdict, chosen seed and scores (JSON).")
@click.option("--table", type=PATH, help="Scores of every run and pair (TSV).")
@click.option(
    "--fail-on",
    type=click.Choice(["doubtful", "failed"]),
    help="Exit with 3 if the verdict is this or worse; the output is written all the same.",
)
def select(
    runs: tuple[Path, ...],
    inputs: tuple[Path, ...],
    links_path: Path | None,
    output: Path,
    table: Path | None,
    fail_on: str | None,
) -> None:
    """Choose the best seed, and say whether its integration can be trusted. Needs neither labels nor pairs."""
    from scmodal.io import check_outputs, read_prepared, write_json, write_tsv
    from scmodal.links import LinkTable, build_links
    from scmodal.select import as_json, as_table, at_least, select_runs

    check_outputs(output, table, inputs=[*inputs, links_path])
    adatas = [read_prepared(path, peaks=False) for path in inputs]
    if links_path is not None:
        links = LinkTable.read(links_path)
    else:  # between two data sets all topologies are one
        links = build_links(adatas, topology=_topology_of(runs) if len(adatas) > 2 else "chain")[0]
    choice = select_runs(adatas, links, runs)
    write_json(as_json(choice), output)
    if table is not None:
        write_tsv(as_table(choice), table)
    say(f"verdict: {choice.verdict}")
    for reason in choice.reasons:
        say(f"  {reason}")
    if len(choice.seeds) > 1:
        say(f"chosen: {choice.chosen}")
    if fail_on is not None and at_least(choice.verdict, fail_on):
        say(f"Error: --fail-on {fail_on}: the integration is {choice.verdict}; see {output}")
        sys.exit(DataError.exit_code)


def _topology_of(runs: tuple[Path, ...]) -> str:
    """Topology that all runs were trained with."""
    from scmodal.contracts import model_topology

    problems: list[str] = []
    found: set[str] = set()
    for run in runs:
        if not (run / "model" / "model.json").is_file():
            problems.append(f"{run}: no model.json in it; give the folder that `scmodal integrate` made")
            continue
        try:
            found.add(model_topology(run / "model"))
        except InputError as error:
            problems += error.problems
    if len(found) > 1:
        problems.append(f"the runs differ in topology ({', '.join(sorted(found))}): give those of one")
    if problems:
        raise InputError(problems)
    return found.pop()


@cli.command()
@click.option("--sample", required=True, help="Name in the title.")
@click.option("--run", "runs", type=PATH, required=True, multiple=True, help="Result folder; several seeds, several.")
@click.option("--coverage", type=PATH, help="Coverage table of `scmodal link`.")
@click.option("--evaluate", "evaluations", type=PATH, multiple=True, help="Metrics, in the order of the runs.")
@click.option("--transfer", "transfers", type=PATH, multiple=True, help="Labels named *.A_to_B.labels.tsv.")
@click.option("--imputed", type=PATH, multiple=True, help="Imputed data named *.A_to_B.h5ad.")
@click.option("--selection", type=PATH, help="Verdict and chosen seed of `scmodal select` (JSON).")
@click.option("--peakgene", "peakgene_folders", type=PATH, multiple=True, help="Folder of links; one a seed.")
@click.option("--params", type=PATH, help="Parameters of the pipeline (JSON).")
@click.option("--output", type=PATH, required=True, help="Report (HTML).")
@click.option("--multiqc-dir", type=PATH, help="Folder for the MultiQC section files.")
def report(
    sample: str,
    runs: tuple[Path, ...],
    coverage: Path | None,
    evaluations: tuple[Path, ...],
    transfers: tuple[Path, ...],
    imputed: tuple[Path, ...],
    selection: Path | None,
    peakgene_folders: tuple[Path, ...],
    params: Path | None,
    output: Path,
    multiqc_dir: Path | None,
) -> None:
    """One self-contained page with pictures and numbers."""
    from scmodal.report import build_report

    build_report(
        sample,
        list(runs),
        coverage=coverage,
        evaluations=list(evaluations),
        transfers=list(transfers),
        imputed=list(imputed),
        params=params,
        output=output,
        multiqc_dir=multiqc_dir,
        peakgene=list(peakgene_folders),
        selection=selection,
    )
    say(f"{output}: report of {sample}")


@cli.command()
@click.option("--output", type=PATH, required=True, help="Folder for the .h5ad files and samplesheet.csv.")
@click.option("--peak-gene", is_flag=True, help="RNA and ATAC with planted peak-gene links, and what was planted.")
@click.option("--cells", type=click.IntRange(10), default=1000, show_default=True)
@click.option("--genes", type=click.IntRange(50), default=1000, show_default=True)
@click.option("--proteins", type=click.IntRange(3), default=60, show_default=True)
@click.option("--cell-types", type=click.IntRange(1), default=8, show_default=True)
@click.option(
    "--cytometry",
    "markers",
    type=click.IntRange(3),
    is_flag=False,
    flag_value=30,
    metavar="[MARKERS]",
    help="Mass cytometry of the same tissue, too; 30 markers unless a number is given.",
)
@click.option("--modalities", default="rna,protein", show_default=True, help="rna,protein or rna,atac.")
@click.option("--unpaired", is_flag=True, help="Different cells in the files.")
@click.option("--seed", type=click.IntRange(0), default=0, show_default=True)
def simulate(
    output: Path,
    peak_gene: bool,
    cells: int,
    genes: int,
    proteins: int,
    cell_types: int,
    markers: int | None,
    modalities: str,
    unpaired: bool,
    seed: int,
) -> None:
    """Make RNA and protein counts, and cytometry, or RNA and chromatin, with a known truth."""
    if peak_gene:
        _simulate_links(output, cells, genes, cell_types, not unpaired, seed)
        return

    from scmodal.contracts import canonical_modality
    from scmodal.io import check_writable
    from scmodal.simulate import simulate as make
    from scmodal.simulate import write_simulation
    from scmodal.simulate_large import LARGE, write_large_simulation

    check_writable(output)
    wanted = [canonical_modality(name) for name in modalities.split(",")]
    if sorted(wanted) not in (["protein", "rna"], ["atac", "rna"]):
        raise InputError(f"--modalities {modalities!r} cannot be simulated; it can be rna,protein or rna,atac")
    if "atac" in wanted:
        from scmodal.simulate_atac import simulate_atac, write_atac_simulation

        if markers:
            raise InputError("--cytometry goes with rna,protein: leave one of the two options out")
        write_atac_simulation(simulate_atac(cells, genes, cell_types, paired=not unpaired, seed=seed), output)
        say(f"{output}: rna.h5ad, atac.h5ad, genes.bed, samplesheet.csv")
        return
    if cells * genes > LARGE:
        if markers:
            raise InputError("--cytometry is for simulations in memory: fewer --cells or --genes, or leave it out")
        write_large_simulation(output, cells, genes, proteins, cell_types, paired=not unpaired, seed=seed)
        made = ["rna", "protein"]
    else:
        mdata = make(cells, genes, proteins, cell_types, paired=not unpaired, seed=seed, n_markers=markers or 0)
        write_simulation(mdata, output)
        made = list(mdata.mod)
    say(f"{output}: {', '.join(f'{name}.h5ad' for name in made)}, samplesheet.csv")


def _simulate_links(output: Path, cells: int, genes: int, cell_types: int, paired: bool, seed: int) -> None:
    from scmodal.simulate_large import LARGE
    from scmodal.simulate_links import simulate_links, write_link_simulation

    if 10 * cells * genes > LARGE:
        raise InputError("--peak-gene is for simulations in memory: fewer --cells or --genes")
    simulation = simulate_links(cells, genes, n_cell_types=cell_types, paired=paired, seed=seed)
    write_link_simulation(simulation, output)
    say(f"{output}: rna.h5ad, atac.h5ad, genes.bed, truth.tsv, samplesheet.csv")


@cli.command()
def doctor() -> None:
    """Say what this installation has and can do."""
    import torch

    from scmodal.model import software_versions

    for name, version in software_versions().items():
        click.echo(f"{name:15} {version}")
    click.echo(f"{'CPU threads':15} {torch.get_num_threads()} of {os.cpu_count()}")
    found = [torch.cuda.get_device_name(i) for i in range(torch.cuda.device_count())]
    click.echo(f"{'CUDA devices':15} {', '.join(found) or 'none: training runs on the CPU'}")
    product = torch.ones(4, 4) @ torch.ones(4, 4)
    if not bool((product == 4).all()):
        raise RuntimeError("torch multiplies matrices wrongly on this machine")
    click.echo("all fine")


if __name__ == "__main__":
    main()
