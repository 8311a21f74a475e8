"""After a failure `-resume` redoes what it must and no more; `nextflow clean` leaves the results."""

from __future__ import annotations

from pathlib import Path

import pytest

from .conftest import nextflow, pipeline

pytestmark = [pytest.mark.pipeline, pytest.mark.slow]

STUB = ("-profile", "test", "-stub-run")


def fail_at(step: str, status: int, folder: Path) -> tuple[str, ...]:
    """Options with which every task of a step ends with a status before it begins."""
    (folder / "fail.config").write_text(
        f"process {{\n    withName: {step} {{\n        beforeScript = 'exit {status}'\n    }}\n}}\n"
    )
    return ("-c", "fail.config")


@pytest.mark.parametrize(
    ("step", "status"), [("PREPROCESS", 2), ("INTEGRATE", 3), ("EVALUATE", 137), ("SELECT", 3), ("REPORT", 1)]
)
def test_resume_after_a_failure(step: str, status: int, tmp_path: Path) -> None:
    failed = pipeline(tmp_path, *STUB, *fail_at(step, status, tmp_path))
    assert failed.code != 0
    attempts = failed.text.count(f":{step} (") - failed.text.count("Error executing process")
    assert attempts >= (3 if status == 137 else 1), failed.text
    # after a failure no further task is begun, and those that run beside it end: which these are depends on the time
    done = {name for name, status in failed.trace.items() if status == "COMPLETED"}
    resumed = pipeline(tmp_path, *STUB, "-resume")
    assert resumed.code == 0, resumed.text
    assert {name for name, status in resumed.trace.items() if status == "CACHED"} == done
    assert "VALIDATE (samplesheet)" in done
    assert (tmp_path / "out" / "report" / "pbmc.html").is_file()


def test_clean_leaves_the_results_and_a_later_run_works(tmp_path: Path) -> None:
    first = pipeline(tmp_path, *STUB)
    assert first.code == 0, first.text
    published = first.published()
    cleaned = nextflow(tmp_path, "clean", "-f")
    assert cleaned.code == 0, cleaned.text
    assert not list((tmp_path / "work").glob("*/*/.command.sh"))
    assert first.published() == published
    again = pipeline(tmp_path, *STUB, "-resume")
    assert again.code == 0, again.text
    assert set(again.trace.values()) == {"COMPLETED"}
    assert again.published() == published
