"""Peaks that open and close with a gene's expression, told from what chance and the genome's common course bring about.

From units of alike cells (:mod:`~scmodal.peakgene.units`) come accessibility and imputed expression
(:mod:`~scmodal.peakgene.aggregate`); every peak near a gene (:mod:`~scmodal.peakgene.pairs`) is correlated with it
(:mod:`~scmodal.peakgene.correlation`) and judged by peaks of other chromosomes (:mod:`~scmodal.peakgene.background`).
:mod:`~scmodal.peakgene.run` does it for files.
"""

from scmodal.peakgene.link import LinkSettings, link_peaks

__all__ = ["LinkSettings", "link_peaks"]
