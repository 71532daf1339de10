"""Which of several copies stays."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from storage.corpus import HELD_OUT


def precedence(about: pa.Table) -> npt.NDArray[np.int64]:
    """Numbers of the documents (columns ``id``, ``first_seen``), those first that are kept before others.

    Documents of a source that is held out for validation come first: of a page that is there and in
    the training data, it is the one trained on that has to go. Then those seen first, then by id.
    """
    trained_on = pc.invert(pc.match_substring(about["id"], HELD_OUT)).cast(pa.int8())
    table = pa.table({"trained_on": trained_on, "first_seen": about["first_seen"], "id": about["id"]})
    order: npt.NDArray[np.uint64] = pc.sort_indices(table, [(n, "ascending") for n in table.column_names]).to_numpy()
    return order.astype(np.int64)
