"""Everything that numba compiles: hashing, look-up, rows, optimizers, server functions, and the client's partitioning.

A *kernel* is one compiled function that handles a whole request, all buckets of it, without the GIL and without an object
per key. Kernels see memory by address: a table of int64 (`layout`) holds the addresses, capacities and counts of all
buckets, so that a call has few arguments. `compiled` compiles them and keeps them on disk. Every kernel has a slow, obvious
twin in ``tests/naive.py`` or ``tests/naive_mllib.py``.

Nothing is imported here: ``import sparkps.kernels`` costs nothing.
"""
