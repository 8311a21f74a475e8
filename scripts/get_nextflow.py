# /// script
# requires-python = ">=3.11"
# dependencies = ["jgo==3.2.0"]
# ///
"""Download the jars listed in nextflow.jars from Maven Central into a folder.

Usage: ``uv run --script scripts/get_nextflow.py <folder>``. The list is exact and every file is checked against its
sha256. MAVEN_CENTRAL_URL names a mirror, where one has to be used.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import sys
import tempfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from jgo.maven import MavenContext

JARS = Path(__file__).with_name("nextflow.jars")


def read_jars() -> list[tuple[str, str]]:
    """Coordinates and sha256 of every jar in the list."""
    lines = JARS.read_text().splitlines()
    return [(line.split()[0], line.split()[1]) for line in lines if line.strip() and not line.startswith("#")]


def fetch(context: MavenContext, coordinate: str, sha256: str) -> Path:
    """Path of one downloaded jar whose checksum is right."""
    group, artifact, version = coordinate.split(":")
    path = Path(context.project(group, artifact).at_version(version).artifact().resolve())
    found = hashlib.sha256(path.read_bytes()).hexdigest()
    if found != sha256:
        raise SystemExit(f"{path.name}: the downloaded file has sha256 {found}, expected {sha256}")
    return path


def main(folder: Path) -> None:
    """Fill `folder` with every jar; an existing folder is replaced only when all of them are here."""
    mirror = os.environ.get("MAVEN_CENTRAL_URL")
    folder.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=folder.parent) as temporary:
        cache, jars = Path(temporary, "cache"), Path(temporary, "jars")
        jars.mkdir()
        context = MavenContext(
            repo_cache=cache, remote_repos={"central": mirror.rstrip("/")} if mirror else None, timeout=60
        )
        with ThreadPoolExecutor(8) as pool:
            for path in pool.map(lambda jar: fetch(context, *jar), read_jars()):
                shutil.move(path, jars / path.name)
        shutil.rmtree(folder, ignore_errors=True)
        jars.rename(folder)


if __name__ == "__main__":
    main(Path(sys.argv[1]).resolve())
