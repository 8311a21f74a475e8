"""Write the tables of parameters in docs/usage.md from nextflow_schema.json.

Usage: ``python scripts/make_parameters.py``. The text between the two markers is replaced; a test keeps both equal.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
USAGE = ROOT / "docs" / "usage.md"
BEGIN = "<!-- begin parameters: scripts/make_parameters.py -->"
END = "<!-- end parameters -->"


def default_text(entry: dict, required: bool) -> str:
    """What a parameter is if it is not given."""
    if required:
        return "required"
    value = entry.get("default")
    if value is None:
        return ""
    return f"`{str(value).lower() if isinstance(value, bool) else value}`"


def row(name: str, entry: dict, required: bool) -> str:
    """Line of a table: name, default, meaning with its choices."""
    choices = f" ({', '.join(f'`{choice}`' for choice in entry['enum'])})" if "enum" in entry else ""
    sentences = [f"{entry['description']}{choices}.", entry.get("help_text", "")]
    cells = [f"`--{name}`", default_text(entry, required), " ".join(filter(None, sentences)).replace("|", "\\|")]
    return "| " + " | ".join(cells) + " |"


def tables(schema: dict) -> str:
    """One heading and table a group of parameters."""
    lines = []
    for group in schema["$defs"].values():
        lines += [f"### {group['title']}", "", "| parameter | default | |", "|---|---|---|"]
        required = group.get("required", [])
        lines += [row(name, entry, name in required) for name, entry in group["properties"].items()]
        lines.append("")
    return "\n".join(lines)


def updated(usage: str, schema: dict) -> str:
    """`usage` with its tables made anew."""
    head, rest = usage.split(BEGIN)
    _, tail = rest.split(END)
    return f"{head}{BEGIN}\n\n{tables(schema)}\n{END}{tail}"


def main() -> None:
    """Rewrite docs/usage.md."""
    argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter).parse_args()
    schema = json.loads((ROOT / "nextflow_schema.json").read_text())
    USAGE.write_text(updated(USAGE.read_text(), schema))


if __name__ == "__main__":
    main()
