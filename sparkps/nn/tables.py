"""Tables of embeddings as modules declare them: what the tier is to make of them, and which features have their rows there."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from torch import nn

from sparkps.initializers import Initializer, Uniform
from sparkps.optim import Adagrad, Optimizer
from sparkps.specs import TABLE_NAME
from sparkps.wire.encodings import NAMED

if TYPE_CHECKING:
    from sparkps.nn.embedding import Embedding


#: What a table is where nothing else is said.
FIRST_ROWS: Initializer = Uniform(-0.01, 0.01)
LEARNS_BY: Optimizer = Adagrad(0.05)

#: Most characters of a name: trainings put their own prefix before it, and names on the nodes may have 128.
LONGEST_NAME = 64

#: How rows and gradients may travel, see `SparseTable.over`.
TRANSPORTS = tuple(NAMED)

#: How rows may lie on the nodes, see `PSContext.sparse_table`.
STORAGES = ("float32", "float16", "bfloat16")


@dataclass(frozen=True)
class EmbeddingTable:
    """One table of embeddings: a row of `dim` numbers for any int64 key, which appears when it is first learned. Picklable."""

    name: str
    dim: int
    #: Columns whose keys have rows here.
    features: tuple[str, ...]
    init: Initializer = FIRST_ROWS
    optimizer: Optimizer = LEARNS_BY
    seed: int = 0
    #: How rows and gradients travel, one of `TRANSPORTS`; None: as whoever trains says, float32 without that.
    transport: str | None = None
    #: How rows lie on the nodes, one of `STORAGES`; None: as whoever trains says, float32 without that.
    storage: str | None = None

    def __post_init__(self) -> None:
        if not isinstance(self.name, str) or not TABLE_NAME.match(self.name) or len(self.name) > LONGEST_NAME:
            raise ValueError(
                "The name of a table of embeddings must start with a letter or '_', hold letters, digits, '_', '.' or '-' only, and be at"
                f" most {LONGEST_NAME} characters long, for it is part of names on the nodes. Got {self.name!r}."
            )
        if isinstance(self.dim, bool) or not isinstance(self.dim, int) or self.dim < 1:
            raise ValueError(f"The `dim` of embeddings {self.name!r} must be an int >= 1. Got {self.dim!r}.")
        if not self.features or len(set(self.features)) < len(self.features) or not all(isinstance(f, str) for f in self.features):
            raise ValueError(f"The `features` of embeddings {self.name!r} must be names of columns, each once. Got {self.features!r}.")
        if self.transport is not None and self.transport not in TRANSPORTS:
            raise ValueError(f"The `transport` of embeddings {self.name!r} must be one of {', '.join(TRANSPORTS)}. Got {self.transport!r}.")
        if self.storage is not None and self.storage not in STORAGES:
            raise ValueError(f"The `storage` of embeddings {self.name!r} must be one of {', '.join(STORAGES)}. Got {self.storage!r}.")

    def merged(self, other: EmbeddingTable) -> EmbeddingTable:
        """This table with the features of another module that uses it.

        Raises
        ------
        ValueError
            They are not the same table.
        """
        if replace(other, features=self.features) != self:
            raise ValueError(
                f"Embeddings {self.name!r} are one table: every module that names it must give the same dim, init, optimizer,"
                f" seed, transport and storage. Got"
                f" {other} beside {self}; give one of them another name."
            )
        return replace(self, features=tuple(dict.fromkeys([*self.features, *other.features])))


def embeddings_of(module: nn.Module) -> list[Embedding]:
    """The modules within `module`, itself included, that look up embeddings."""
    from sparkps.nn.embedding import Embedding

    return [each for each in module.modules() if isinstance(each, Embedding)]


def tables_of(module: nn.Module, storage: str | None = None) -> dict[str, EmbeddingTable]:
    """The tables of a module, by name; `storage` is of those that do not say it.

    Raises
    ------
    ValueError
        Modules disagree about a table.

    Examples
    --------
    >>> from sparkps.nn import Embedding
    >>> both = nn.ModuleList([Embedding("item", 4, ["viewed"]), Embedding("item", 4, ["bought"])])
    >>> tables_of(both)["item"].features
    ('viewed', 'bought')
    """
    tables: dict[str, EmbeddingTable] = {}
    for each in embeddings_of(module):
        known = tables.get(each.table.name)
        tables[each.table.name] = each.table if known is None else known.merged(each.table)
    return {name: replace(table, storage=table.storage or storage) for name, table in tables.items()}


def vocabularies_of(module: nn.Module) -> dict[str, str]:
    """By feature, the name under which its values are hashed: features of one table that shares rows have one name.

    Examples
    --------
    >>> from sparkps.nn import Embedding
    >>> vocabularies_of(Embedding("item", 4, ["viewed", "bought"])), vocabularies_of(Embedding("all", 4, ["a", "b"], shared=False))
    ({'viewed': 'item', 'bought': 'item'}, {'a': 'a', 'b': 'b'})
    """
    joined: dict[str, str] = {}
    for each in embeddings_of(module):
        names = each.table.features if each.shared else ()
        for name in names if len(tables_of(module)[each.table.name].features) > 1 else ():
            if joined.setdefault(name, each.table.name) != each.table.name:
                raise ValueError(
                    f"A feature may share the rows of one table. {name!r} shares those of {joined[name]!r} and of {each.table.name!r}: set"
                    " shared=False in one of them."
                )
    features = dict.fromkeys(name for table in tables_of(module).values() for name in table.features)
    return {name: joined.get(name, name) for name in features}


def create_tables(ps: Any, tables: Iterable[EmbeddingTable], prefix: str = "") -> Mapping[str, Any]:
    """Make tables on the tier, or find those that are the same.

    Parameters
    ----------
    ps : PSContext
        Or what makes tables in its place.
    tables : iterable of EmbeddingTable
    prefix : str
        Of their names there.

    Returns
    -------
    mapping
        By name without the prefix, the `SparseTable`.

    Examples
    --------
    >>> create_tables(ps, tables_of(model).values())     # doctest: +SKIP
    """
    return {
        table.name: ps.sparse_table(
            prefix + table.name, dim=table.dim, init=table.init, optimizer=table.optimizer, seed=table.seed, storage=table.storage
        )
        for table in tables
    }


__all__ = [
    "FIRST_ROWS", "LEARNS_BY", "STORAGES", "TRANSPORTS", "EmbeddingTable", "create_tables", "embeddings_of", "tables_of", "vocabularies_of",
]  # fmt: skip
