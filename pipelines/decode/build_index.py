"""Choice of the index of a catalogue by the length of its semantic IDs."""

from __future__ import annotations

import numpy as np

from pipelines.data.candidates import fits_a_number
from pipelines.data.windows import is_short
from pipelines.decode.agreement import AgreementIndex
from pipelines.decode.index import PartialIndex
from pipelines.decode.sid_index import SidIndex


def build_index(
    sids: np.ndarray,
    codes: int,
    subsets: list[frozenset[int]] | None = None,
    items: np.ndarray | None = None,
) -> SidIndex:
    """Build the index of a catalogue: of all its partial SIDs where a 64-bit number counts them and few sets
    of digits can be reached, else one that looks for agreeing items.

    Args:
        sids: distinct semantic IDs of the whole catalogue, [items, H], codes from 0 to V − 1.
        codes: V.
        subsets: sets of unmasked digits that the search can reach (`Decoding.reachable`); None for all 2^H.
        items: numbers of the items that the index holds, ascending; None for all.
    """
    H = sids.shape[1]
    if is_short(H, codes) or (subsets is not None and fits_a_number(H, codes)):
        return PartialIndex(sids, codes, subsets, items)
    return AgreementIndex(sids, codes, items)
