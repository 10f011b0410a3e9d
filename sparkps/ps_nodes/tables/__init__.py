"""The tables of a node: their rows in memory, the directory of them, and the checked operations on them."""
