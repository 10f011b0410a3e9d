"""Embeddings on the tier for modules of torch. Needs torch: ``pip install 'sparkps[torch]'``.

A module declares `Embedding` and `EmbeddingBag` in place of torch's, and is trained by `sparkps.mllib.deep.TorchEstimator`, or by
hand: see `TierRows`.
"""

from __future__ import annotations

try:
    import torch as _  # noqa: F401
except ModuleNotFoundError as error:
    raise ModuleNotFoundError("sparkps.nn needs torch. Install it, or sparkps with it: pip install 'sparkps[torch]'.") from error

from sparkps.nn.embedding import Embedding, EmbeddingBag
from sparkps.nn.features import MISSING, Bags, Batch, Keys
from sparkps.nn.local import LocalRows
from sparkps.nn.plain import with_plain_embeddings
from sparkps.nn.step import Lookup, RowSource, Step
from sparkps.nn.tables import EmbeddingTable, create_tables, embeddings_of, tables_of, vocabularies_of
from sparkps.nn.tier import TierRows

__all__ = [
    "MISSING", "Bags", "Batch", "Embedding", "EmbeddingBag", "EmbeddingTable", "Keys", "LocalRows", "Lookup", "RowSource", "Step",
    "TierRows", "create_tables", "embeddings_of", "tables_of", "vocabularies_of", "with_plain_embeddings",
]  # fmt: skip
