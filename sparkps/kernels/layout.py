"""Where the kernels find things: the columns of the pointer tables and of the tables of hyper-parameters.

A pointer table is an int64 array of shape (NUM_BUCKETS, 8), one cache line per bucket, which Python allocates, keeps and
shares with the kernels. Addresses in it are those of numpy arrays that Python owns; whoever replaces one holds the bucket's
lock, a word in the index's pointer table.
"""

from __future__ import annotations

#: Columns of every pointer table.
WIDTH = 8

# An index (or a dense table's range) of one bucket. Key and slot lie side by side: one cache line for a look-up.
#: Address of int32[3 * capacity]: low and high half of a key, and its slot; a slot of -1 marks an empty place.
ENTRIES = 0
#: int32 words of an entry.
ENTRY = 3
#: Places in the index, < 2**31.
CAPACITY = 2
#: Rows in the bucket; slots are 0 .. count-1.
COUNT = 3
#: 0 free, 1 taken.
LOCK = 4

# A table in one bucket.
#: Address of the rows, (room, dim); planes 1 and 2, the optimizer's state, follow.
PLANE = 0
#: Rows that each plane has room for.
ROOM = 3
#: Optimizer steps so far.
STEP = 4

# Table of the laws by which rows of the attached tables begin: int64 (tables, 8) and float64 (tables, 8).
LAW_HEADS = 0  # address of the table's pointer table
LAW_DIM = 1
LAW_STORED = 2  # of rows, one of `STORED`
LAW_PLANES = 3
LAW_KIND = 4  # initializers.LawKind
LAW_SEED = 5
LAW_DUAL = 6  # 1: plane 1 is the dual of the row (FTRL)

#: How rows may lie.
FLOAT32, FLOAT64, BFLOAT16, FLOAT16 = range(4)
STORED = {"float32": FLOAT32, "float64": FLOAT64, "bfloat16": BFLOAT16, "float16": FLOAT16}

LAW_A = 0
LAW_B = 1
LAW_STATE1 = 2  # first value of plane 1
LAW_STATE2 = 3  # first value of plane 2
LAW_SLOPE = 4  # FTRL: beta / alpha + l2
LAW_L1 = 5  # FTRL: l1

# Hyper-parameters of an optimizer step: float64 (1 or touched buckets, 8).
RATE = 0
L1 = 1
L2 = 2
#: Where an optimizer's own parameters begin.
OWN = 3
HYPER_WIDTH = 9

# Codes of `sparkps.wire.messages.data.OpCode`, for the kernel that sums a clock's parts.
MODE_PUSH = 1
MODE_ADD = 2
MODE_ASSIGN = 3

# What `vectors.reduce_buckets` computes.
SUM = 0
NORM1 = 1
SQUARES = 2
MIN = 3
MAX = 4
NONZERO = 5
