"""The description of one deep training: what an estimator asks for, and what its workers get."""

from __future__ import annotations

import contextlib
import hashlib
import io
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import cloudpickle
import torch
from torch import nn

from sparkps.client.row_cache import CACHE_BYTES
from sparkps.consistency import SSP, Consistency
from sparkps.mllib.deep.columns import DeepColumns
from sparkps.mllib.deep.losses import RowLoss
from sparkps.mllib.metrics import GlobalMetric
from sparkps.optim import Optimizer
from sparkps.specs import UNBOUNDED


def pickled(module: nn.Module) -> bytes:
    """A module with its weights, on the CPU, by value where its class is of a notebook; a `skeleton` stays without weights."""
    buffer = io.BytesIO()
    is_skeleton = any(each.is_meta for each in module.parameters())
    torch.save(module if is_skeleton else module.cpu(), buffer, pickle_module=cloudpickle)
    return buffer.getvalue()


def unpickled(module: bytes) -> nn.Module:
    """What `pickled` was given."""
    found = torch.load(io.BytesIO(module), map_location=_to_cpu, weights_only=False)
    assert isinstance(found, nn.Module), "a module was pickled"
    return found


def _to_cpu(storage: Any, location: str) -> Any:
    return storage if location == "meta" else torch.serialization.default_restore_location(storage, "cpu")


def digest(module: nn.Module) -> str:
    """What a module is, and its weights, in few characters: the same in every process, as its pickle need not be."""
    found = hashlib.sha256(repr(module).encode())
    kept = {name: each for name, each in module.state_dict().items() if isinstance(each, torch.Tensor)}
    for name, each in (kept | dict(module.named_buffers())).items():
        found.update(f"{name} {each.dtype} {tuple(each.shape)}".encode())
        found.update(each.detach().cpu().contiguous().view(-1).view(torch.uint8).numpy().tobytes())
    for name, each in module.named_modules():
        for attribute, value in sorted(vars(each).items()):
            with contextlib.suppress(TypeError, ValueError):  # what JSON has not may come out otherwise in another process
                found.update(f"{name}.{attribute} {json.dumps(value, sort_keys=True)}".encode())
    return found.hexdigest()[:16]


@dataclass(frozen=True)
class DeepJob:
    """Rows, module, and how it is trained. Picklable."""

    #: The estimator's; for names of tables and messages.
    uid: str
    columns: DeepColumns
    #: See `pickled`; its weights are those that training begins with.
    module: bytes
    loss: RowLoss
    #: Of dense parameters.
    optimizer: Optimizer
    epochs: int
    #: Most rows of one rank in one step.
    batch_size: int
    consistency: Consistency
    #: None: as many as the cluster runs at once.
    num_workers: int | None
    deterministic: bool
    #: Of the order of rows, and of what the module draws.
    seed: int
    #: "ps": they are on the tier, which applies their optimizer; "allreduce": each rank has them, and gradients are summed among the ranks.
    dense: str = "ps"
    #: Whether batch normalization is over the rows of all ranks; of "allreduce".
    sync_batch_norm: bool = False
    #: "none": every worker has the whole module; "pipeline": each has a stage; "fsdp": each has its rows of every parameter.
    model_parallel: str = "none"
    #: Of a pipeline: "gpipe" or "1f1b", and the parts of a step's rows that are in it at once.
    pipeline_schedule: str = "1f1b"
    micro_batches: int = 4
    #: Parts of a batch that go through the module one after the other, their gradients added up.
    accumulation: int = 1
    #: What rows for validation are measured by; None: what the loss is measured by.
    metrics: tuple[GlobalMetric, ...] | None = None
    #: Whether the module computes in bfloat16 where autocast does.
    amp: bool = False
    #: Batches whose rows may be asked for ahead, as far as the staleness allows it.
    prefetch: int = 1
    #: Clocks for which rows may be used again, as far as the staleness allows it beside `prefetch`; and most bytes of those of one table at
    #: a worker.
    cache_clocks: int = 0
    cache_bytes: int = CACHE_BYTES
    #: How rows and gradients travel, of tables that do not say it themselves; see `SparseTable.over`.
    transport: str = "float32"
    #: How rows lie on the nodes, of tables that do not say it themselves; see `PSContext.sparse_table`.
    storage: str = "float32"
    #: "auto": the GPU that Spark gave the task, or the CPU where GPUs are not asked for; "cpu"; "cuda": an error where there is none.
    device: str = "auto"
    #: GPUs of one worker, or its share of one; None: as `spark.sparkps.worker.gpus` says.
    gpus_per_worker: float | None = None
    #: Processors that all workers share, where they are on one host; 0: Spark says how many threads each has.
    cores: int = 0
    early_stopping_rounds: int = 5
    validation_tol: float = 0.0
    checkpoint_dir: str = ""
    checkpoint_interval: int = 10
    #: What the model keeps besides, as JSON has it.
    facts: Mapping[str, Any] = field(default_factory=dict)

    @property
    def ahead(self) -> int:
        """Batches whose rows are asked for before the one at hand is pushed."""
        bound = self.consistency.bound
        return self.prefetch if bound == UNBOUNDED else min(self.prefetch, max(0, bound - 1))

    @property
    def cached(self) -> int:
        """Clocks for which rows are used again. Under BSP none: each clock changes the rows for all that read them."""
        bound = self.consistency.bound
        return self.cache_clocks if bound == UNBOUNDED else min(self.cache_clocks, max(0, bound - 1 - self.ahead))

    @property
    def of_group(self) -> Consistency:
        """The consistency of the worker group: rows that were asked for some clocks before their use are so much older."""
        bound, older = self.consistency.bound, self.ahead + self.cached
        return SSP(bound - older) if bound > 0 and older else self.consistency

    def described(self, num_workers: int) -> dict[str, str]:
        """See `CheckpointedJob`."""
        columns = self.columns
        known: dict[str, Any] = {
            "module": digest(unpickled(self.module)),
            "loss": self.loss.described,
            "labelCol": ", ".join(columns.labels),
            "inputs": columns.inputs.facts(),
            "weightCol": columns.weight,
            "validationIndicatorCol": columns.validation,
            "handleInvalid": columns.handle_invalid,
            "optimizer": repr(self.optimizer),
            "dense": self.dense,
            "syncBatchNorm": self.sync_batch_norm,
            "modelParallel": (self.model_parallel, self.pipeline_schedule, self.micro_batches)
            if self.model_parallel != "none"
            else "none",
            "maxIter": self.epochs,
            "batchSize": self.batch_size,
            "accumulation": self.accumulation,
            "amp": self.amp,
            "transport": self.transport,
            "storage": self.storage,
            "consistency": repr(self.consistency),
            "numWorkers": num_workers,
            "earlyStoppingRounds": self.early_stopping_rounds if columns.validation else 0,
            "validationTol": self.validation_tol if columns.validation else 0.0,
            "metrics": None if self.metrics is None else ", ".join(each.name for each in self.metrics),
            "deterministic": self.deterministic,
            "seed": self.seed,
        }
        return {name: str(value) for name, value in known.items()}


@dataclass(frozen=True)
class DeepNames:
    """Names of the tables of one training: those of embeddings have a space of their own, for users name them."""

    prefix: str

    def rows(self, table: str) -> str:
        """Embeddings of a table of the module."""
        return f"{self.prefix}.rows.{table}"

    def best_rows(self, table: str) -> str:
        """Those of the best model on rows for validation."""
        return f"{self.prefix}.best_rows.{table}"

    @property
    def dense(self) -> str:
        """All parameters of the module, one after the other."""
        return f"{self.prefix}.dense"

    @property
    def saved_dense(self) -> str:
        """Of ranks that have their own copies: the newest version, for checkpoints."""
        return f"{self.prefix}.dense.saved"

    @property
    def best_dense(self) -> str:
        """Those of the best model."""
        return f"{self.prefix}.dense.best"

    def dense_part(self, rank: int) -> str:
        """Where the module is divided: the parameters of that rank's part."""
        return f"{self.prefix}.dense.{rank}"

    def best_dense_part(self, rank: int) -> str:
        """Those of the best model."""
        return f"{self.prefix}.dense.{rank}.best"

    @property
    def buffers(self) -> str:
        """What modules keep besides parameters, as running means."""
        return f"{self.prefix}.buffers"

    @property
    def best_buffers(self) -> str:
        """Those of the best model."""
        return f"{self.prefix}.buffers.best"

    @property
    def ranks(self) -> str:
        """What each rank has read, see `ranks.COUNTS`."""
        return f"{self.prefix}.ranks"

    @property
    def losses(self) -> str:
        """Of each epoch, see `measuring.LOSSES`."""
        return f"{self.prefix}.losses"

    @property
    def measures(self) -> str:
        """Of rows for validation, sums of the metrics, a row for each epoch."""
        return f"{self.prefix}.measures"


@dataclass(frozen=True)
class DeepRankJob:
    """A job as the workers get it. Picklable."""

    job: DeepJob
    names: DeepNames
    budget: int
    scratch: str
    #: Names of tables that there are besides those of embeddings.
    has: frozenset[str] = field(default_factory=frozenset)
    #: The training may go on from a checkpoint.
    resumes: bool = False
    #: Where ranks of one host leave what is to outlive them; empty: they are not lost together.
    shared_directory: str = ""
    #: GPUs that were asked for, for each worker.
    gpus: float = 0.0


__all__ = ["DeepJob", "DeepNames", "DeepRankJob", "pickled", "unpickled"]
