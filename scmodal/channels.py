"""What the channels of a cytometer are, told by their names: markers, or time, size, viability and the like."""

from __future__ import annotations

import re
from collections.abc import Sequence

COFACTORS = {"mass": 5.0, "fluorescence": 150.0}
"""Cofactor of the arcsinh transform by kind of cytometer."""

# Channels of a cytometer that are no markers, as whole names in any case; `tag` is the metal in front of a name.
_TAG = r"(?:\d{2,3}[A-Za-z]{1,2}(?:Di|Dd)?[ _-])?"

_TECHNICAL = {
    what: re.compile(_TAG + f"(?:{pattern})", re.IGNORECASE)
    for what, pattern in {
        "time and event shape": (
            r"time|(?:event|cell)[ _.-]?(?:length|time|number|no|#|id)|width|center|offset|residual|bead[ _.-]?dist"
            r"|file[ _.-]?(?:number|no|id)|sample[ _.-]?id"
        ),
        "scatter": r"(?:fsc|ssc|fs|ss|forward[ _.-]?scatter|side[ _.-]?scatter)(?:[ _.-]\w+)*",
        "DNA": (
            r"dna[ _.-]?\d*(?:\(.*\)(?:d[id])?)?|(?:\d{3}ir|ir\d{3})(?:di|dd)?|\(ir\d{3}\)d[id]|.*intercalator.*"
            r"|.*nucacid.*|cell[ _.-]?id.*|dapi.*|hoechst.*|draq\d.*"
        ),
        "barcode": r"(?:bc|bar[ _.-]?code)[ _.-]?\d*|.*[ _.-]barcode\d*",
        "beads": r"(?:eq[ _.-]?)?beads?[ _.-]?\d*|.*[ _.-](?:eq)?beads?\d*",
        "viability": r"viab(?:ility)?|live[ _./-]?dead(?:[ _.-]\w+)*|l/d|dead|cis(?:platin)?|zombie.*",
        "background": r"bckg|background|environ|.*\d(?:xe|bckg)(?:di|dd)?|(?:xe|bckg)\d{2,3}(?:di|dd)?",
    }.items()
}

# Metals that antibodies, barcodes and intercalators carry; spelled out, for Ki67 and B220 look much like one.
_ELEMENT = "(?:Y|Rh|Pd|Ag|Cd|In|Sn|Te|I|Xe|Cs|Ba|La|Ce|Pr|Nd|Sm|Eu|Gd|Tb|Dy|Ho|Er|Tm|Yb|Lu|Hf|Ta|W|Os|Ir|Pt|Au|Pb|Bi)"

_ISOTOPE = rf"(?:{_ELEMENT}\d{{2,3}}|\d{{2,3}}{_ELEMENT})"

METAL = re.compile(rf"\(?{_ISOTOPE}\)?(?:D[id])?")

METAL_TAG = re.compile(rf"^{_ISOTOPE}(?:D[id])?[ _-](?=.)|(?<=.)[ _-]?\({_ISOTOPE}\)(?:D[id])?$")


def technical_channel(channel: str, marker: str, named: bool) -> str | None:
    """What a channel measures if that is no marker. A marker's name counts, the channel's only where it has none."""
    for what, pattern in _TECHNICAL.items():
        if pattern.fullmatch(marker):
            return what
    if named and marker == channel and METAL.fullmatch(channel):
        return "metal without a marker"
    return None


def kind_of_instrument(channels: Sequence[str], hint: str = "") -> str:
    """``mass``, ``fluorescence`` or ``""`` (cannot tell), from an instrument's name and the channels' names."""
    if hint in COFACTORS:
        return hint
    if re.search(r"cytof|helios|dvs|fluidigm|hyperion", hint, re.IGNORECASE):
        return "mass"
    metals = sum(bool(METAL.fullmatch(c) or METAL_TAG.search(c)) for c in channels)
    if metals >= max(3, 0.3 * len(channels)):
        return "mass"
    if any(re.match(r"(fsc|ssc)", c, re.IGNORECASE) for c in channels):
        return "fluorescence"
    return ""
