"""Reads golden cases: one ``.npz`` holds a JSON description (``spec``), stored arrays and the reference's outputs.

Weights and inputs are rebuilt from rules: each tensor draws from ``numpy.random.RandomState`` seeded with the CRC-32 of
its name, so the only arrays of a file are outputs (``out/…``, thinned by strides), recorded inputs (``in/…``) and a few
tensors (``state/…``).
"""

import json
import math
import zipfile
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from runtime.errors import UserError

INT16_SCALE = 32768.0
TWO_PI = 2.0 * math.pi


def _between(low: float, high: float) -> Callable[[np.random.RandomState, tuple], np.ndarray]:
    return lambda generator, shape: generator.uniform(low, high, shape)


def _sampler(rule: str, argument: Any) -> Callable[[np.random.RandomState, tuple], np.ndarray]:
    """The distribution that a rule names; ``argument`` is the number (or pair) stored beside it."""
    if rule == "weight":  # argument: effective fan-in
        return _between(-math.sqrt(3.0 / argument), math.sqrt(3.0 / argument))
    if rule == "rnn":  # argument: hidden size
        return _between(-(argument**-0.5), argument**-0.5)
    if rule == "bias":  # argument: amplitude, 0.1 when there is none
        return _between(-(argument or 0.1), argument or 0.1)
    if rule == "range":
        return _between(*argument)
    if rule == "embedding":  # argument: standard deviation
        return lambda generator, shape: argument * generator.standard_normal(shape)
    fixed = {
        "norm_weight": (0.7, 1.3),
        "norm_bias": (-0.2, 0.2),
        "running_mean": (-0.2, 0.2),
        "running_var": (0.6, 1.4),
        "scale": (0.3, 0.8),
    }
    if rule not in fixed:
        raise UserError(f"golden file asks for the unknown tensor rule {rule!r}")
    return _between(*fixed[rule])


def make_tensor(name: str, shape: list[int], rule: str, argument: Any = None, salt: str = "") -> np.ndarray:
    """The float32 tensor that a rule stands for."""
    generator = np.random.RandomState(zlib.crc32(f"{salt}{name}".encode()))
    return np.asarray(_sampler(rule, argument)(generator, tuple(shape))).astype(np.float32)


def _signal(
    shape: list[int], sr: float, seed: int, noise: float = 0.05, tone: float = 0.3, transpose: bool = False
) -> np.ndarray:
    """White noise plus four tones with slowly moving levels, ``[…, time]`` (or its transpose), float32."""
    generator = np.random.RandomState(seed)
    seconds = np.arange(shape[-1]) / float(sr)
    mixed = noise * generator.standard_normal(tuple(shape))
    for _ in range(4):
        frequency = 60.0 * (0.3 * sr / 60.0) ** generator.uniform()
        phase, rate, start = generator.uniform(0, TWO_PI, 3)
        gains = tone * generator.uniform(-0.5, 0.5, (*shape[:-1], 1))
        level = 0.5 + 0.5 * np.sin((0.3 + rate) * 2 * seconds + start)
        mixed = mixed + gains * level * np.sin(TWO_PI * frequency * seconds + phase)
    return np.ascontiguousarray(mixed.T if transpose else mixed).astype(np.float32)


def _random(shape: list[int], seed: int, kind: str = "normal", scale: float = 1.0, offset: float = 0.0) -> np.ndarray:
    """``offset + scale * z`` with z normal, its absolute value (``abs``) or uniform in [0, 1); float32."""
    generator = np.random.RandomState(seed)
    z = generator.uniform(size=tuple(shape)) if kind == "uniform" else generator.standard_normal(tuple(shape))
    return (offset + scale * (np.abs(z) if kind == "abs" else z)).astype(np.float32)


_INPUT_RULES = {"signal": _signal, "random": _random}


@dataclass(frozen=True)
class Comparison:
    """How one output of ours compares with the stored one; ``worst`` is the largest error over what is allowed."""

    name: str
    ok: bool
    error: float
    allowed: float
    worst: float
    note: str = ""


class Case:
    """One golden case.

    Attributes:
        name, arch, op: of the case, the reference class or module (None for a signal path), the operation that was run
        config: constructor arguments of the reference class
        run: arguments of the operation
        doc: what the outputs mean, axis order and units
        n_params: trainable parameters of the reference model
        grad_names: for training cases the parameter behind each entry of ``grad_norm`` and ``grad_proj``
        outputs: stored reference outputs, thinned by ``strides[name]``
    """

    def __init__(self, spec: dict[str, Any], arrays: dict[str, np.ndarray]):
        self.spec, self._arrays = spec, arrays
        self.name: str = spec["name"]
        self.arch: str | None = spec.get("arch")
        self.op: str = spec["op"]
        self.config: dict[str, Any] = spec.get("config") or {}
        self.run: dict[str, Any] = spec.get("run") or {}
        self.doc: str = spec.get("doc") or ""
        self.n_params: int = spec.get("n_params") or 0
        self.grad_names: list[str] = spec.get("grad_names") or []
        self.outputs = {key[4:]: value for key, value in arrays.items() if key.startswith("out/")}
        self.strides = {name: tuple(facts["stride"]) for name, facts in spec["outputs"].items()}

    def iter_state(self) -> Iterator[tuple[str, np.ndarray]]:
        """Reference tensors one at a time; buffers that the model computes itself (rule ``keep``) are left out."""
        for name, shape, rule, argument in self.spec["state"]:
            if rule == "stored":
                yield name, self._arrays[f"state/{name}"]
            elif rule != "keep":
                yield name, make_tensor(name, shape, rule, argument, self.spec.get("salt", ""))

    @cached_property
    def state(self) -> dict[str, np.ndarray]:
        """Reference tensor name -> float32 array in the reference's layout."""
        return dict(self.iter_state())

    @cached_property
    def inputs(self) -> dict[str, np.ndarray]:
        """Inputs by name; recorded 16-bit audio comes as float32 in [-1, 1)."""
        return {name: self._input(name, dict(rule)) for name, rule in self.spec["inputs"].items()}

    def _input(self, name: str, rule: dict[str, Any]) -> np.ndarray:
        kind = rule.pop("rule")
        if kind == "stored":
            value = self._arrays[f"in/{name}"]
            return value.astype(np.float32) / INT16_SCALE if value.dtype == np.int16 else value
        if kind not in _INPUT_RULES:
            raise UserError(f"golden file asks for the unknown input rule {kind!r}")
        return _INPUT_RULES[kind](**rule)

    def verify(self) -> None:
        """Checks the file's fingerprints: that what was rebuilt is what the reference was run with.

        Raises:
            UserError: weights or inputs differ
        """
        rebuilt = {"state": self.iter_state(), "inputs": self.inputs.items()}
        for kind, pairs in rebuilt.items():
            got = float(sum(np.abs(array).sum(dtype=np.float64) for _, array in pairs))
            want = self.spec["digest"][kind]
            if not abs(got - want) <= 1e-7 * abs(want) + 1e-12:
                raise UserError(f"{self.name}: the rebuilt {kind} have digest {got!r}, the file says {want!r}")

    def thin(self, name: str, value: np.ndarray) -> np.ndarray:
        """Keeps of a complete output what the file keeps."""
        return value[tuple(slice(None, None, stride) for stride in self.strides[name])]

    def compare(self, name: str, value: np.ndarray) -> Comparison:
        """Compares a complete output with the stored one: every stored value, NaN positions, and the moments of all.

        A value passes within ``atol + rtol * |reference|``. Mean and standard deviation cover what was not stored.
        """
        facts, reference, value = self.spec["outputs"][name], self.outputs[name], np.asarray(value)
        atol, rtol = facts["atol"], facts["rtol"]
        if list(value.shape) != list(facts["shape"]):
            note = f"shape {list(value.shape)}, expected {list(facts['shape'])}"
            return Comparison(name, False, math.inf, atol, math.inf, note)
        kept, finite = self.thin(name, value), np.isfinite(reference)
        expected = np.where(finite, reference, 0)
        # an infinity is met by itself only; NaN positions are compared as such below
        elsewhere = np.where(np.isnan(reference) | (kept == reference), 0.0, math.inf)
        error = np.where(finite, np.abs(np.where(finite, kept, 0) - expected), elsewhere)
        worst = float(np.max(error / (atol + rtol * np.abs(expected) + 1e-300), initial=0.0))
        note = ""
        if not np.array_equal(np.isnan(kept), np.isnan(reference)):
            note = "NaN in other places"
        elif not self._moments_agree(name, value):
            note = "mean or deviation of the whole differs"
        return Comparison(name, worst <= 1.0 and not note, float(error.max(initial=0.0)), atol, worst, note)

    def _moments_agree(self, name: str, value: np.ndarray) -> bool:
        facts = self.spec["outputs"][name]
        size = np.abs(value) if np.iscomplexobj(value) else value
        if np.isnan(size).all():  # also an output without elements
            return not facts["mean"] > -math.inf
        with np.errstate(invalid="ignore"):  # infinities have no deviation
            got = np.array([np.nanmean(size, dtype=np.float64), np.nanstd(size, dtype=np.float64)])
        want = np.array([facts["mean"], facts["std"]])
        if not np.isfinite(want).all():
            return np.array_equal(got, want, equal_nan=True)
        off = np.abs(got - want).sum()
        return bool(off <= 4 * facts["atol"] + (facts["rtol"] + 1e-6) * facts["max"])


def load(path: str | Path) -> Case:
    """Reads a case.

    Raises:
        UserError: the file is not there or is no golden case
    """
    try:
        with np.load(path) as archive:
            arrays = {key: archive[key] for key in archive.files}
        return Case(json.loads(arrays.pop("spec").tobytes().decode()), arrays)
    except FileNotFoundError as failure:
        raise UserError(f"there is no golden file {path}") from failure
    except (OSError, ValueError, KeyError, EOFError, AttributeError, zipfile.BadZipFile, zlib.error) as failure:
        raise UserError(f"{path} is not a golden case: {failure}") from failure
