"""`ScModal`: what a notebook user touches; the command line calls the same methods."""

from __future__ import annotations

import dataclasses
import importlib.metadata
import platform
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np
import pandas as pd
from anndata import AnnData
from mudata import MuData
from numpy.typing import NDArray

from scmodal._version import __version__
from scmodal.batches import Batches
from scmodal.contracts import InputError, canonical_modality, nearest
from scmodal.inputs import EngineInput, Recipe, build_inputs, modality_of
from scmodal.latents import evened, lengthened
from scmodal.links import LinkTable, build_links, check_pairs
from scmodal.predictability import CELLS, expected_r
from scmodal.presets import Preset, get_preset, pairs_of
from scmodal.redraw import redrawn
from scmodal.rows import LazyRows, row_chunks

if TYPE_CHECKING:
    import torch

    from scmodal.checkpoint import Keeper, Resume
    from scmodal.networks import Networks
    from scmodal.training import Progress

SCHEMA_VERSION = 1
LATENT_KEY = "X_scmodal"
ENCODE_CHUNK = 2048
N_QUANTILES = 201
REFERENCE_CELLS = 20_000
"""Training cells of each modality whose latents a model keeps for imputation."""
_CELLS = "cells."  # before a modality's name, the key of these among the weights

Data: TypeAlias = MuData | Mapping[str, AnnData] | Sequence[AnnData]


def software_versions() -> dict[str, str]:
    """Versions of Python and of the packages that results depend on."""
    packages = (
        "anndata",
        "mudata",
        "numpy",
        "pandas",
        "pynndescent",
        "scanpy",
        "scikit-learn",
        "scipy",
        "torch",
        "umap-learn",
    )
    return {
        "scmodal": __version__,
        "python": platform.python_version(),
        **{name: importlib.metadata.version(name) for name in packages},
    }


def pick_device(name: str = "auto") -> torch.device:
    """Device to compute on.

    Parameters
    ----------
    name
        ``auto`` (CUDA where there is one, else CPU), ``cpu``, ``cuda``, ``cuda:N`` or ``mps``.

    Raises
    ------
    InputError
        Unknown name, or a device that this machine does not have.
    """
    import torch

    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(name)
    except RuntimeError:
        device = None
    if device is None or device.type not in {"cpu", "cuda", "mps"}:
        raise InputError(f"unknown device {name!r} (known: auto, cpu, cuda, cuda:N, mps)")
    if device.type == "cuda" and not torch.cuda.is_available():
        raise InputError(
            f"device {name!r} was asked for, but torch finds no CUDA device here: check the driver (nvidia-smi) and "
            "the container's GPU option, or use --device auto or cpu (in the pipeline: leave out --use_gpu)"
        )
    if device.type == "cuda" and (device.index or 0) >= torch.cuda.device_count():
        raise InputError(f"device {name!r} was asked for, but there are {torch.cuda.device_count()} CUDA device(s)")
    if device.type == "mps" and not torch.backends.mps.is_available():
        raise InputError("device 'mps' was asked for, but torch finds none here: use --device auto or cpu")
    return device


@dataclasses.dataclass
class Decoded:
    """Features of one modality at latent positions; arrays of cells x distinct features, float32."""

    log_normalised: NDArray[np.float32]
    scaled: NDArray[np.float32]
    confidence: NDArray[np.float32]
    """One value a cell, see :meth:`ScModal.confidence`."""


class ScModal:
    """Integration of data sets of different modalities measured on different cells.

    Parameters
    ----------
    preset
        ``"default"``, ``"paper"``, or a :class:`~scmodal.presets.Preset`.
    seed
        Fixes starting values, batches and dropout: the same seed on the same machine and number of threads gives the
        same result, bit for bit, on a CPU.
    device
        See :func:`pick_device`.
    threads
        CPU threads of torch; None leaves torch's own choice.
    settings
        Single settings of the preset to change, for example ``steps=500``.

    Attributes
    ----------
    modalities
        Names in chain order.
    recipes
        How each data set's input is computed, by modality.
    batches
        Batches that the networks are told of, by modality; None for a modality without.
    links
        Links that were used.
    history
        One row a training step (columns of :data:`scmodal.step.HISTORY_COLUMNS` after ``step``).
    messages
        What was noticed on the way, as sentences.
    references
        Latents of training cells that imputation goes by (at most :data:`REFERENCE_CELLS` of each modality).
    redrawn
        By modality the latents that training cells could as well have been given, see :mod:`scmodal.redraw`.
    counterparts
        By modality and by the other's name, how much of a counterpart each training cell has there, see
        :mod:`scmodal.counterpart`; empty for presets that do not match cells before training.

    Examples
    --------
    >>> model = ScModal(seed=0).fit({"rna": rna, "protein": protein})  # doctest: +SKIP
    >>> z = model.embed(rna)  # doctest: +SKIP
    """

    def __init__(
        self,
        preset: str | Preset = "default",
        seed: int = 0,
        device: str = "auto",
        threads: int | None = None,
        **settings: Any,
    ) -> None:
        self.preset = get_preset(preset, **settings)
        self.seed = int(seed)
        self.device = device
        self.threads = threads
        self.modalities: list[str] = []
        self.recipes: dict[str, Recipe] = {}
        self.batches: dict[str, Batches | None] = {}
        self.links: LinkTable | None = None
        self.history: pd.DataFrame | None = None
        self.messages: list[str] = []
        self.training: dict[str, Any] = {}
        self.keeper: Keeper | None = None
        self.latents: dict[str, NDArray[np.float32]] = {}
        self.references: dict[str, NDArray[np.float32]] = {}
        self.redrawn: dict[str, NDArray[np.float32]] = {}
        self.counterparts: dict[str, dict[str, NDArray[np.float32]]] = {}
        self._networks: Networks | None = None
        self._cycle_quantiles: dict[str, dict[str, list[float]]] = {}

    # ---- fitting -----------------------------------------------------------------------------------------------

    def fit(
        self,
        data: Data,
        links: LinkTable | pd.DataFrame | None = None,
        progress: Progress | None = None,
        *,
        checkpoint: str | Path | None = None,
        checkpoint_every: float = 300.0,
        resume: Resume = True,
        say: Callable[[str], None] | None = None,
    ) -> ScModal:
        """Train on two or more prepared data sets.

        Parameters
        ----------
        data
            Prepared data sets (see :mod:`scmodal.preprocess`) in their order: a MuData, a mapping from modality to
            AnnData, or a sequence of AnnData. Those that the preset's topology matches must have linked features.
        links
            Table of linked features; without one the built-in names are used.
        progress
            Called with (steps done, steps in all, latest losses).
        checkpoint
            File to keep checkpoints in. With one, training goes on from it after an interruption as if there had been
            none, and SIGTERM, SIGINT (Ctrl-C) and SIGUSR1 end it after the running step. The file stays when training
            has ended: delete it once the model is saved.
        checkpoint_every
            Seconds between two checkpoints.
        resume
            Whether to go on from the checkpoint if it is there. True: it must fit; ``"auto"``: where it does not fit
            or is damaged, start anew; False: start anew.
        say
            Called with each sentence on checkpoints; without it they are added to `messages`.

        Raises
        ------
        InputError
            Data or links do not fit together, or the checkpoint does not fit them (every difference is named).
        DataError
            The data cannot be integrated: training diverged, or cells share no anchors.
        scmodal.checkpoint.Interrupted
            A signal ended training, and there is a checkpoint.
        """
        import torch

        from scmodal.checkpoint import Keeper, fingerprint, machine_of

        self.messages = []
        adatas = _as_list(data)
        self.modalities = [modality_of(adata) for adata in adatas]
        if len(set(self.modalities)) < len(self.modalities):
            raise InputError(
                f"several data sets of one modality ({', '.join(self.modalities)}): join them in `scmodal preprocess` "
                "(several --input and a --batch-key)"
            )
        if not isinstance(links, LinkTable) or (links.frame["modality_a"] == "").any():
            links, _ = build_links(adatas, links, self.preset.topology)
        elif len(adatas) > 2:
            check_pairs(links, self.modalities, self.preset.topology)
        device = pick_device(self.device)
        if self.threads:
            torch.set_num_threads(self.threads)
        inputs = build_inputs(adatas, links, self.preset)
        self.links = links
        self.recipes = {item.modality: item.recipe for item in inputs}

        self.keeper = None
        try:
            if checkpoint is not None:
                fit_for = fingerprint(adatas, inputs, links, self.preset, self.seed, device)
                self.keeper = Keeper(
                    Path(checkpoint), checkpoint_every, fit_for, machine_of(device), say or self.messages.append
                )
            self._train(inputs, device, progress, self.keeper, resume)
        finally:
            for item in inputs:
                if isinstance(item.x, LazyRows):
                    item.x.close()
        return self

    def _train(
        self,
        inputs: Sequence[EngineInput],
        device: torch.device,
        progress: Progress | None,
        keeper: Keeper | None,
        resume: Resume,
    ) -> None:
        import torch

        from scmodal import start, step, training

        training_data = training.make_data(inputs, self.preset, device)
        for item in inputs:
            item.linked.clear()  # the training data have them, at unit length
            item.sides.clear()
        self.messages += training_data.messages
        self.batches = {item.modality: item.batches for item in inputs}
        self.counterparts = {
            item.modality: {
                inputs[sum(training_data.pairs[pair]) - k].modality: values for pair, values in item.counterpart.items()
            }
            for k, item in enumerate(inputs)
        }
        drawn = _share_drawn(inputs, self.preset)
        self.messages += [
            _few_drawn(item, drawn[item.modality], self.preset) for item in inputs if drawn[item.modality] < 0.63
        ]
        found = keeper.find(resume) if keeper is not None else None
        state = training.make_state(
            [item.x.shape[1] for item in inputs], self.preset, self.seed, device, self._n_batches()
        )
        if self.preset.start_scale > 0.0:
            coordinates = [(a.cpu().numpy(), b.cpu().numpy()) for a, b in training_data.linked]
            targets = start.common_targets(
                coordinates, training_data.pairs, self.preset.n_latent, self.preset.start_scale
            )
            dropout = [step.dropout_share(self.preset, item.x.shape[1]) for item in inputs]
            start.start_from(
                state.networks, [item.x for item in inputs], targets, dropout, [item.told for item in inputs]
            )
        history, seconds = training.train(state, training_data, self.preset, progress, keeper, found)
        del training_data
        self._networks = state.networks.requires_grad_(False)
        self.history = pd.DataFrame(history, columns=list(step.HISTORY_COLUMNS))
        self.history.insert(0, "step", np.arange(1, len(history) + 1))
        steps = len(history)
        if steps < self.preset.steps:
            self.messages.append(
                f"Training ended after {steps:,} of {self.preset.steps:,} steps: the data sets mixed less than before, "
                "which is how over-training begins (--set unmixing=0 does all steps)."
            )
        self.training = {
            "steps": steps,
            "seconds": seconds,
            "seconds_per_step": seconds / steps,
            "device": str(device) if device.type == "cpu" else f"{device} ({_device_name(device)})",
            "threads": torch.get_num_threads(),
            "resumed_at": keeper.resumed_at if keeper is not None else [],
            # how much the pairs that were found last agree, and so count against the links; empty without
            "rematching_share": {
                "|".join(inputs[k].modality for k in pair): directions.share
                for pair, directions in zip(pairs_of(self.preset.topology, len(inputs)), state.directions)
            },
            "cells_drawn": drawn,
            "n_cells": {item.modality: len(item.x) for item in inputs},
            "n_features": {item.modality: len(item.recipe.features) for item in inputs},
            "batch_sizes": {item.modality: min(self.preset.batch_size, len(item.x)) for item in inputs},
        }
        self.latents = {
            item.modality: self._encode(
                (part for _, part in row_chunks(item.x, ENCODE_CHUNK)), len(item.x), item.modality, item.told
            )
            for item in inputs
        }
        self.redrawn = {item.modality: self._redrawn(item) for item in inputs}
        self.references = {name: _some_cells(z, REFERENCE_CELLS) for name, z in self.latents.items()}
        self._learn_cycle_errors(inputs)

    def _redrawn(self, item: EngineInput) -> NDArray[np.float32]:
        """Where the training cells of a data set could as well lie."""
        name = item.modality

        def told(cells: NDArray[np.intp]) -> NDArray[np.float32] | None:
            return None if item.told is None else item.told[cells]

        def encode(x: NDArray[np.float32], cells: NDArray[np.intp]) -> NDArray[np.float32]:
            return self._encode([x], len(x), name, told(cells))

        def generate(z: NDArray[np.float32], cells: NDArray[np.intp]) -> NDArray[np.float32]:
            out = np.empty((len(z), item.x.shape[1]), np.float32)
            return self._apply("generators", name, [self._to_networks(z)], out, told(cells))

        feature = pd.factorize(np.asarray(item.recipe.columns, dtype=object))[0]
        return redrawn(item.x, self.latents[name], feature, encode, generate)

    def _learn_cycle_errors(self, inputs: Sequence[EngineInput]) -> None:
        """Quantiles of |z - E_j(G_j(z))| over the training cells of j: the scale of an imputed cell's confidence."""
        grid = np.linspace(0, 1, N_QUANTILES)
        self._cycle_quantiles = {
            item.modality: {
                "error": np.quantile(self._cycle_error(self.latents[item.modality], item.modality), grid).tolist()
            }
            for item in inputs
        }

    # ---- using -------------------------------------------------------------------------------------------------

    def embed(self, adata: AnnData | None = None, modality: str | None = None) -> NDArray[np.float32]:
        """Latent coordinates (of even length, see :mod:`scmodal.latents`).

        Parameters
        ----------
        adata
            Cells of a modality the model knows, prepared or raw (see :func:`scmodal.embed.new_cells`), features in any
            order; without them, the training cells.
        modality
            Needed where `adata` does not say it itself, or where `adata` is not given.

        Returns
        -------
        cells x n_latent, float32, rows in the order of the cells.

        Raises
        ------
        InputError
            Unknown modality, cells that were prepared as another one, no counts, or more than half of the features
            missing.
        """
        modality = self.known_modality(modality or (modality_of(adata) if adata is not None else ""))
        if adata is None:
            if modality not in self.latents:
                raise InputError("a loaded model does not keep its training cells: give the data set to embed")
            return self.latents[modality]

        from scmodal.embed import new_cells

        adata = new_cells(adata, modality, cofactor=self.recipes[modality].cofactor)
        chunks = self.recipes[modality].chunks(adata, ENCODE_CHUNK)
        return self._encode(chunks, adata.n_obs, modality, self._told(adata, modality))

    def embed_chunks(self, adata: AnnData, modality: str, size: int) -> Iterator[NDArray[np.float32]]:
        """Latent coordinates of the cells of a prepared data set, `size` cells at a time."""
        modality = self.known_modality(modality)
        told, start = self._told(adata, modality), 0
        for part in self.recipes[modality].chunks(adata, size):
            own = None if told is None else told[start : start + len(part)]
            yield self._encode([part], len(part), modality, own)
            start += len(part)

    def scaled(self, adata: AnnData, modality: str | None = None) -> tuple[NDArray[np.float32], list[str]]:
        """Measured values in the model's scaled units.

        Returns
        -------
        cells x distinct features (float32), and the features' names: comparable with ``impute(...).layers["scaled"]``.
        """
        recipe = self.recipes[self.known_modality(modality or modality_of(adata))]
        return recipe.per_feature(recipe.transform(adata)), recipe.features

    def impute(self, source: str, target: str, adata: AnnData | None = None) -> AnnData:
        """Features of `target` predicted for cells of `source`: G_target(E_source(x)).

        Parameters
        ----------
        source, target
            Modalities.
        adata
            Prepared cells of `source`; without them, the training cells.

        Returns
        -------
        AnnData, cells of `source` x features of `target`, float32: X in log-normalised units, ``layers["scaled"]`` in
        the model's scaled units, ``obs["confidence"]`` (see :meth:`confidence`), ``var["expected_r"]`` (see
        :mod:`scmodal.predictability`), ``uns["scmodal"]`` with the origin.
        """
        source, target = self.known_modality(source), self.known_modality(target)
        if source == target:
            raise InputError(f"imputation from {source} to itself: give two different modalities")
        z = self.embed(adata, source)
        values = self.decode(z, target)
        result = AnnData(
            X=values.log_normalised,
            obs=adata.obs.copy() if adata is not None else None,
            var=self.imputed_features(target).assign(expected_r=self.expected_r(source, target)),
            layers={"scaled": values.scaled},
            obsm={LATENT_KEY: z},
            uns={"scmodal": {"modality": target, "from": source, "to": target, "scmodal_version": __version__}},
        )
        result.obs["confidence"] = values.confidence
        return result

    def expected_r(self, source: str, target: str) -> NDArray[np.float32]:
        """Correlation to expect of every imputed feature with the true one (see :mod:`scmodal.predictability`).

        It is that over all cells of `source`, as the model was trained on them, whichever cells are imputed for: told
        from :data:`scmodal.predictability.CELLS` of them at the most.

        Parameters
        ----------
        source, target
            Modalities.

        Returns
        -------
        One value a feature of :meth:`imputed_features`, float32, 0 to 1.
        """
        source, target = self.known_modality(source), self.known_modality(target)
        cells = _some_cells(self.references[source], CELLS)
        return expected_r(self.decode(cells, target).scaled)

    def imputed_features(self, target: str) -> pd.DataFrame:
        """Feature table of an imputation: names in the index, ``linked`` as a column."""
        recipe = self.recipes[self.known_modality(target)]
        features = pd.Index(recipe.features, dtype=object)
        return pd.DataFrame({"linked": features.isin(list(recipe.linked_features))}, index=features)

    def decode(self, z: NDArray[np.float32], target: str, *, direct: bool = False) -> Decoded:
        """Features of `target` at latent positions.

        Parameters
        ----------
        z
            Latents, cells x n_latent.
        target
            Modality.
        direct
            Decode `z` as it is. Else it is the mean of the cells of `target` nearest to `z` that is decoded, as many as
            the preset's ``impute_neighbours``, of n cells at most the square root of n: what a single cell's noise adds
            to its place is averaged away, and the generator is asked only about places that it has learnt.
        """
        target = self.known_modality(target)
        at = z if direct or self.preset.impute_neighbours == 0 else self._among_cells(z, target)
        recipe = self.recipes[target]
        batches = self.batches.get(target)  # an imputed cell is of no batch of the target: of the average one
        shares = None if batches is None else batches.shares
        scaled = np.empty((len(z), len(recipe.columns)), np.float32)
        chunks = (self._to_networks(part) for _, part in row_chunks(at, ENCODE_CHUNK))
        self._apply("generators", target, chunks, scaled, shares)
        return Decoded(
            log_normalised=recipe.per_feature(recipe.unscale(scaled)),
            scaled=recipe.per_feature(scaled),
            confidence=self.confidence(z, target),
        )

    def _among_cells(self, z: NDArray[np.float32], target: str) -> NDArray[np.float32]:
        """Mean of the nearest training cells of `target` (cells x n_latent)."""
        from scmodal.neighbours import nearest_neighbours

        cells = self.references[target]
        # the mean over most of a few cells would be the same for all
        k = min(self.preset.impute_neighbours, round(len(cells) ** 0.5))
        out = np.empty_like(z, dtype=np.float32)
        for rows, part in row_chunks(z, ENCODE_CHUNK):
            nearest, _ = nearest_neighbours(cells, part, k)
            out[rows] = cells[nearest].mean(1)
        return out

    def confidence(self, z: NDArray[np.float32], target: str) -> NDArray[np.float32]:
        """How much at home latent cells are in `target`, from 0 to 1.

        A cell is decoded to `target` and encoded again; its confidence is the share of `target`'s own training cells
        that come back with an error at least as large. Cells of a state that `target` never showed come back poorly.

        Parameters
        ----------
        z
            Latents, cells x n_latent.
        target
            Modality that is imputed.
        """
        quantiles = self._cycle_quantiles[self.known_modality(target)]["error"]
        return (1.0 - np.interp(self._cycle_error(z, target), quantiles, np.linspace(0, 1, len(quantiles)))).astype(
            np.float32
        )

    def _cycle_error(self, z: NDArray[np.float32], modality: str) -> NDArray[np.float32]:
        import torch

        from scmodal.networks import latent_cycle

        networks, k = self._fitted(), self.modalities.index(modality)
        device = next(networks.parameters()).device
        batches = self.batches.get(modality)
        average = None if batches is None else torch.as_tensor(batches.shares, device=device)
        parts = []
        for start in range(0, len(z), ENCODE_CHUNK):
            part = torch.as_tensor(self._to_networks(z[start : start + ENCODE_CHUNK]), device=device)
            back = latent_cycle(networks.generators[k], networks.encoders[k], part, average)  # type: ignore[arg-type]
            parts.append((back - part).norm(dim=1).cpu().numpy())
        return np.concatenate(parts)

    def _n_batches(self) -> list[int]:
        """Number of batches that the networks of each modality are told of."""
        found = [self.batches.get(name) for name in self.modalities]
        return [0 if batches is None else len(batches.names) for batches in found]

    def _told(self, adata: AnnData, modality: str) -> NDArray[np.float32] | None:
        """What the encoder of a modality is told of each cell's batch."""
        batches = self.batches.get(modality)
        return None if batches is None else batches.rows(adata)

    def _encode(
        self, chunks: Iterable[NDArray[np.float32]], n: int, modality: str, told: NDArray[np.float32] | None
    ) -> NDArray[np.float32]:
        out = np.empty((n, self.preset.n_latent), np.float32)
        return evened(self._apply("encoders", modality, chunks, out, told), self.preset.evening)

    def _apply(
        self,
        kind: str,
        modality: str,
        chunks: Iterable[NDArray[np.float32]],
        out: NDArray[np.float32],
        told: NDArray[np.float32] | None,
    ) -> NDArray[np.float32]:
        """Run one network over chunks of rows and put the results into `out`.

        `told` holds the batch shares of each row, or one vector for all. Results are not collected piece by piece:
        small pieces kept between large chunks that come and go would keep the freed memory from being used again.
        """
        import torch

        network = getattr(self._fitted(), kind)[self.modalities.index(modality)]
        device = next(network.parameters()).device
        start = 0
        with torch.inference_mode():
            for part in chunks:
                rows = slice(start, start + len(part))
                own = told[rows] if told is not None and told.ndim == 2 else told
                batch = None if own is None else torch.as_tensor(own, device=device)
                out[rows] = network(torch.as_tensor(part, device=device), batch).cpu().numpy()
                start += len(part)
        return out

    def _to_networks(self, z: NDArray[np.float32]) -> NDArray[np.float32]:
        """Latent coordinates as the networks know them."""
        return lengthened(z, self.preset.evening)

    def _fitted(self) -> Networks:
        if self._networks is None:
            raise InputError("the model is not trained yet: call fit() or ScModal.load()")
        return self._networks

    @property
    def networks(self) -> Networks:
        """The trained networks; InputError without training."""
        return self._fitted()

    def known_modality(self, modality: str) -> str:
        """Canonical name of a modality that the model has; InputError for any other."""
        name = canonical_modality(modality)
        if name not in self.modalities:
            raise InputError(f"the model has no {name} data (it has: {', '.join(self.modalities) or 'none yet'})")
        return name

    # ---- keeping -----------------------------------------------------------------------------------------------

    def save(self, folder: str | Path) -> Path:
        """Write ``weights.safetensors`` and ``model.json`` into `folder`; no pickle."""
        import torch
        from safetensors.torch import save

        from scmodal.io import atomic_path, write_json

        folder = Path(folder)
        folder.mkdir(parents=True, exist_ok=True)
        weights = {name: value.contiguous().cpu() for name, value in self._fitted().state_dict().items()}
        weights |= {_CELLS + name: torch.from_numpy(z) for name, z in self.references.items()}
        with atomic_path(folder / "weights.safetensors") as temporary:
            temporary.write_bytes(save(weights))  # unlike save_file, it fails on a full disk with an OSError
        description = {
            "schema_version": SCHEMA_VERSION,
            "scmodal_version": __version__,
            "preset": dataclasses.asdict(self.preset),
            "seed": self.seed,
            "modalities": self.modalities,
            "training": self.training,
            "messages": self.messages,
            "versions": software_versions(),
            "cycle_quantiles": self._cycle_quantiles,
            "links": self.links.frame.to_dict("records") if self.links is not None else [],
            "batches": {name: item.to_dict() for name, item in self.batches.items() if item is not None},
            "recipes": {name: recipe.to_dict() for name, recipe in self.recipes.items()},
        }
        write_json(description, folder / "model.json")
        return folder

    @classmethod
    def load(cls, folder: str | Path, device: str = "auto") -> ScModal:
        """Read a model that :meth:`save` wrote; a model trained on a GPU opens on a CPU.

        Raises
        ------
        InputError
            The folder holds no model, a damaged one, or one of a later version.
        """
        from safetensors import SafetensorError
        from safetensors.torch import load_file

        from scmodal.io import read_json
        from scmodal.networks import Networks

        folder = Path(folder)
        for name in ("model.json", "weights.safetensors"):
            if not (folder / name).is_file():
                raise InputError(f"{folder}: no {name} in it; give the model/ folder of an integration result")
        description = read_json(folder / "model.json")
        if description.get("schema_version") != SCHEMA_VERSION:
            raise InputError(
                f"{folder}/model.json: schema version {description.get('schema_version')!r}, this program reads "
                f"{SCHEMA_VERSION}; use the scmodal version that wrote it ({description.get('scmodal_version')})"
            )
        model = cls(Preset(**description["preset"]), seed=description["seed"], device=device)
        model.modalities = description["modalities"]
        model.recipes = {name: Recipe.from_dict(item) for name, item in description["recipes"].items()}
        model.links = LinkTable(pd.DataFrame(description["links"]))
        model.training = description["training"]
        model.messages = description["messages"]
        model._cycle_quantiles = description["cycle_quantiles"]
        model.batches = {name: Batches.from_dict(item) for name, item in description.get("batches", {}).items()}
        widths = [len(model.recipes[name].columns) for name in model.modalities]
        networks = Networks(widths, model.preset, n_batches=model._n_batches())
        try:
            weights = load_file(folder / "weights.safetensors")
            model.references = {name: weights.pop(_CELLS + name).numpy() for name in model.modalities}
            networks.load_state_dict(weights)
        except (SafetensorError, RuntimeError, KeyError) as error:
            raise InputError(f"{folder}/weights.safetensors: damaged or of another model ({error})") from error
        model._networks = networks.requires_grad_(False).to(pick_device(device))
        return model


def _some_cells(z: NDArray[np.float32], most: int) -> NDArray[np.float32]:
    """At most so many rows, drawn at random."""
    if len(z) <= most:
        return z
    return z[np.sort(np.random.default_rng(0).choice(len(z), most, replace=False))]


def _device_name(device: torch.device) -> str:
    import torch

    return torch.cuda.get_device_name(device) if device.type == "cuda" else device.type


def _share_drawn(inputs: Sequence[EngineInput], preset: Preset) -> dict[str, float]:
    """Expected share of each data set's cells that training draws at least once (drawing is with replacement)."""
    return {
        item.modality: 1.0 - (1.0 - 1.0 / len(item.x)) ** (preset.steps * min(preset.batch_size, len(item.x)))
        for item in inputs
    }


def _few_drawn(item: EngineInput, share: float, preset: Preset) -> str:
    return (
        f"{item.modality} has {len(item.x):,} cells, of which training draws about {share:.0%} "
        f"({preset.steps:,} steps of {preset.batch_size}): more --steps or a larger "
        "--batch-size reach rare kinds of cells."
    )


def _as_list(data: Data) -> list[AnnData]:
    """Data sets in chain order, each knowing its modality."""
    if isinstance(data, MuData):
        order = list(data.uns.get("scmodal", {}).get("modalities", data.mod))
        return [data.mod[name] for name in order]
    if isinstance(data, Mapping):
        for name, adata in data.items():
            if canonical_modality(name) != modality_of(adata):
                close = nearest(modality_of(adata), list(data))
                raise InputError(
                    f"the data set given as {name!r} was prepared as {modality_of(adata)!r}"
                    + (f" (like {close[0]!r})" if close else "")
                )
        return list(data.values())
    return list(data)
