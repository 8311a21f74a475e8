"""Fixtures of the tests that drive the real nextflow: one launcher, one real run shared by all."""

from __future__ import annotations

import os
import re
import subprocess
from dataclasses import dataclass
from pathlib import Path

import pytest

REPO = Path(__file__).resolve().parents[2]
TESTDATA = REPO / "assets" / "testdata"


@dataclass
class Run:
    """A finished nextflow command."""

    folder: Path
    code: int
    text: str

    @property
    def trace(self) -> dict[str, str]:
        """Status of every task by its name, from the trace of the last run into `out`."""
        lines = (self.folder / "out" / "pipeline_info" / "trace.txt").read_text().splitlines()
        header = lines[0].split("\t")
        rows = [dict(zip(header, line.split("\t"), strict=True)) for line in lines[1:]]
        return {re.sub("^([A-Z_]+:)+", "", row["name"]): row["status"] for row in rows}

    def published(self) -> set[str]:
        """Files in `out`, less those that Nextflow writes about the run itself."""
        out = self.folder / "out"
        return {
            str(path.relative_to(out))
            for path in out.rglob("*")
            if path.is_file() and "pipeline_info" not in path.parts
        }


# The same runs under the strict parser are kept for `make test-slow`.
PARSERS = ["v1", pytest.param("v2", marks=pytest.mark.slow)]


def launch(folder: Path, *arguments: str, parser: str | None = None) -> subprocess.Popen[str]:
    """Start nextflow in `folder`, which also gets the work folder; its output comes as one text.

    `parser` is v1 or v2 (strict), or that version's own choice.
    """
    env = {key: value for key, value in os.environ.items() if not key.startswith("NXF_")}
    env |= {"NXF_ANSI_LOG": "false", "NXF_WORK": str(folder / "work")}
    if parser is not None:
        env["NXF_SYNTAX_PARSER"] = parser
    return subprocess.Popen(
        [str(REPO / "scripts" / "nextflow.sh"), *arguments],
        cwd=folder,
        env=env,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def nextflow(folder: Path, *arguments: str, parser: str | None = None, timeout: int = 1800) -> Run:
    """Run nextflow to its end; see :func:`launch`."""
    process = launch(folder, *arguments, parser=parser)
    try:
        text, _ = process.communicate(timeout=timeout)
    finally:
        process.kill()
    return Run(folder, process.returncode, text)


def pipeline(folder: Path, *arguments: str, parser: str | None = None, timeout: int = 1800) -> Run:
    """Run this pipeline with `--outdir out`."""
    return nextflow(folder, "run", str(REPO), "--outdir", "out", *arguments, parser=parser, timeout=timeout)


@pytest.fixture(scope="session")
def real_run(tmp_path_factory: pytest.TempPathFactory) -> Run:
    """One real run of `-profile test`, launched from a folder with a space in its name."""
    run = pipeline(tmp_path_factory.mktemp("a real run"), "-profile", "test")
    assert run.code == 0, run.text
    return run


def run_workflow(folder: Path, script: str, *arguments: str) -> Run:
    """Run a small workflow that includes modules of this repository; the checkout's launcher is on PATH."""
    (folder / "bin").mkdir()
    os.symlink(REPO / "bin" / "scmodal", folder / "bin" / "scmodal")
    (folder / "nextflow.config").write_text("process.publishDir = 'out'\n")
    (folder / "main.nf").write_text(script.replace("MODULES", str(REPO / "modules" / "nf-scmodal" / "scmodal")))
    return nextflow(folder, "run", "main.nf", *arguments)
