"""Which keys a query of sparse attention sees, as arrays of bool ``[queries, keys]``.

The patterns of the Demucs options ``t_mask_type``, ``t_sparse_attn_window``, ``t_global_window``, ``t_sparsity`` and
``t_mask_random_seed``. No published network uses them.
"""

import functools

import numpy as np

KINDS = ("diag", "jmask", "random", "global")


@functools.lru_cache(maxsize=16)
def mask(
    queries: int, keys: int, kinds: str, window: int = 500, edge: int = 50, sparsity: float = 0.95, seed: int = 42
) -> np.ndarray:
    """Everything that any of the patterns lets through.

    Args:
        queries, keys: number of tokens; where they differ, the patterns are stretched
        kinds: of :data:`KINDS`, joined by ``_``: ``diag`` keys at most ``window`` away, ``jmask`` keys at distances 0,
            1, 3, 6, 10, …, ``random`` a share of 1 − ``sparsity``, ``global`` the first ``edge`` keys for all, and all
            keys for as many queries
        seed: of the random pattern
    """
    patterns = {
        "diag": lambda: _near(queries, keys, window),
        "jmask": lambda: _triangular(queries, keys),
        "random": lambda: _uniform(queries * keys, seed).reshape(queries, keys) > np.float32(sparsity),
        "global": lambda: _first(queries, keys, edge),
    }
    return np.any([patterns[kind]() for kind in kinds.split("_")], axis=0)


def _first(queries: int, keys: int, edge: int) -> np.ndarray:
    seen = np.zeros((queries, keys), bool)
    seen[:, :edge] = True
    seen[: int(edge * queries / keys)] = True
    return seen


def _near(queries: int, keys: int, window: int) -> np.ndarray:
    return _scatter(queries, keys, keys / queries, np.arange(-window, window + 1))


def _triangular(queries: int, keys: int) -> np.ndarray:
    steps = np.arange(int((2 * keys) ** 0.5 + 1))
    steps = steps * (steps + 1) // 2
    # a border takes what falls off the ends
    seen = _scatter(queries + 2, keys + 2, keys / queries, np.concatenate([-steps[:0:-1], steps]))
    return seen[1:-1, 1:-1]


def _scatter(queries: int, keys: int, slope: float, offsets: np.ndarray) -> np.ndarray:
    """True at ``offsets`` from a line through the first query and key; float32 decides about rounding."""
    rows = np.arange(queries)[:, None]
    columns = np.float32(slope) * rows.astype(np.float32) + offsets.astype(np.float32)
    seen = np.zeros((queries, keys), bool)
    seen[rows, np.clip(columns.astype(np.int64), 0, keys - 1)] = True
    return seen


def _uniform(count: int, seed: int) -> np.ndarray:
    """The numbers in [0, 1) that PyTorch's generator of the CPU draws: 24 bits of each word of a Mersenne twister."""
    twister = np.random.RandomState(seed)._bit_generator
    return (twister.random_raw(count) & 0xFFFFFF).astype(np.float32) * np.float32(2.0**-24)
