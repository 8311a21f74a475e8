"""Whether a JSON file is what it is given to a report as: a selection, or metrics of an evaluation."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Literal

from pydantic import BaseModel, Field, ValidationError

_Pair = Annotated[str, Field(pattern=r"^[^|]+\|[^|]+$")]
"""Two modalities, as in ``rna|protein``."""
_Way = Annotated[str, Field(pattern=r"^.+_to_.+$")]
"""From one modality to another, as in ``rna_to_protein``."""
_Number = float | None
"""What is not finite is null in JSON."""


class _PairScores(BaseModel):
    score: _Number
    coherence: _Number
    round_trip: _Number
    predictability: _Number
    cycle: _Number
    mixing: _Number


class _SelectedRun(BaseModel):
    seed: int | None
    run: str | None = None
    likeness: _Number
    pairs: dict[_Pair, _PairScores]


class _Selection(BaseModel):
    """What the report takes from ``selection.json``; what else is in it is no matter here."""

    verdict: Literal["trusted", "doubtful", "failed"]
    reasons: list[str]
    chosen_seed: int | None
    chosen_run: str | None = None
    runs: list[_SelectedRun] = []


class _LabelScores(BaseModel):
    accuracy: _Number
    macro_f1: _Number = None


class _ImputationScores(BaseModel):
    pearson_mean: _Number
    n_features: int | None = None
    per_feature: dict[str, _Number] | None = None


class _Metrics(BaseModel):
    """What the report takes from the metrics of an evaluation."""

    seed: int | None = None
    paired: bool | None = None
    foscttm: dict[_Pair, _Number] | None = None
    matching_distance: dict[_Pair, _Number] | None = None
    label_transfer: dict[_Way, _LabelScores] | None = None
    imputation: dict[_Way, _ImputationScores] | None = None
    neighbour_mixing: dict[_Pair, _Number] | None = None


MEASURED = ("neighbour_mixing", "foscttm", "label_transfer", "imputation")
"""Parts of the metrics of an evaluation, of which at least one is there."""


def selection_problem(content: Mapping[str, Any]) -> str | None:
    """Why a JSON object is no selection; None where it is one."""
    return _first_problem(_Selection, content)


def metrics_problem(content: Mapping[str, Any]) -> str | None:
    """Why a JSON object is no metrics of an evaluation; None where it is."""
    if not any(name in content for name in MEASURED):
        return f"without any of {', '.join(MEASURED)}"
    return _first_problem(_Metrics, content)


def _first_problem(model: type[BaseModel], content: Mapping[str, Any]) -> str | None:
    """First thing that does not fit, and where it is."""
    try:
        model.model_validate(content)
    except ValidationError as error:
        first = error.errors()[0]
        place = " > ".join(str(part) for part in first["loc"])
        return f"{place} is missing" if first["type"] == "missing" else f"{place}: {first['msg']}"
    return None
