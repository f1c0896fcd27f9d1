"""How a network is run: Paddle's eager mode, or (CPU) an exported Paddle Inference program with oneDNN kernels.

The program is exported once per network, weights and Paddle version and kept in ``$PADDLESTEMS_CACHE`` (default
``~/.cache/paddlestems/programs``). Eager mode is the reference that it equals within 1e-5 of the signal.

``bf16`` (program only) computes in bfloat16 where oneDNN has kernels for it. Measured on three real songs against
float32, the error of a stem is −46 to −50 dB of the stem for a small trained network, −34 to −39 dB for random weights
of the released size; a single sample deviates by up to 0.008 and 0.034 of full scale.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import shutil
import tempfile
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from runtime import checkpoint
from runtime.console import log
from runtime.device import is_host
from runtime.errors import UserError
from runtime.files import atomic_folder, cache_folder, read_json, write_json

ENGINES = ("auto", "program", "eager")
PRECISIONS = ("float32", "bf16")
_FORMAT = 1  # raise it when programs exported before must not be used any more
_KEPT = 8  # programs in the cache; the least recently used ones go first
_TOLERANCE = 1e-4  # of the largest output: what tells a wrong operator from rounding
_FOLDER = "programs"  # where they are below the user's own folder for what can be made again
_PROGRAM, _PARAMETERS, _FACTS = "network.json", "network.pdiparams", "facts.json"


class Engine(Protocol):
    """Runs a network on numpy arrays: ``[B, …]`` float32 in, ``[B, S, …]`` float32 out. ``name`` says how."""

    name: str

    def __call__(self, batch: np.ndarray) -> np.ndarray: ...


def build(
    model: Any,
    engine: str = "auto",
    precision: str = "float32",
    device: str | None = None,
    weights_hash: str | None = None,
    say: Callable[[str], None] = log,
) -> Engine:
    """The engine for ``model`` (a ``paddle.nn.Layer`` with a ``description``).

    ``auto`` is the program on a CPU and eager elsewhere, and eager, with the reason given to ``say``, where the export
    fails. ``device`` is the name of the device in force, as paddle spells it, and is asked for if need be;
    ``weights_hash`` (of ``runtime.checkpoint``) saves computing it.
    Raises UserError for an unknown engine or precision, or one that this device does not have.
    """
    if engine not in ENGINES:
        raise UserError(f"engine {engine!r} is none of {', '.join(ENGINES)}")
    if precision not in PRECISIONS:
        raise UserError(f"precision {precision!r} is none of {', '.join(PRECISIONS)}")
    device = device or device_in_force()
    if engine == "program" and not is_host(device):
        raise UserError(f"the exported program runs on the CPU only: use --engine eager on {device}")
    wants_program = engine != "eager" and is_host(device)
    if precision == "bf16" and not wants_program:
        raise UserError("bf16 needs the exported program on a CPU: use --engine program --device cpu, or float32")
    if precision == "bf16" and not cpu_has_bf16():
        raise UserError("this CPU has no bfloat16 instructions (avx512_bf16 or amx_bf16): use --precision float32")
    if not wants_program:
        return EagerEngine(model)
    try:
        return ProgramEngine(model, precision, weights_hash, say)
    except Exception as error:
        if engine == "program" or precision == "bf16":
            reason, remedy = _last_line(error), "--precision float32" if precision == "bf16" else "--engine eager"
            raise UserError(f"the network does not run as an exported program: {reason}; use {remedy}") from error
        say(f"engine: eager, because the network does not run as an exported program: {_last_line(error)}")
        return EagerEngine(model)


class EagerEngine:
    """The network as it is, operator by operator. Its training mode is left as it was.

    Threads may share it: they take turns, or with ``together`` compute at the same time, which takes memory for each.
    """

    name = "eager"

    def __init__(self, model: Any, together: bool = False):
        self._model = model
        self._turn = contextlib.nullcontext() if together else threading.Lock()
        self._lock = threading.Lock()  # the mode of the model is one for all threads
        self._calls, self._training = 0, False

    def __call__(self, batch: np.ndarray) -> np.ndarray:
        import paddle

        with self._turn, self._evaluating(), paddle.no_grad():
            return self._model(paddle.to_tensor(batch)).numpy()

    @contextlib.contextmanager
    def _evaluating(self) -> Iterator[None]:
        with self._lock:
            if not self._calls:
                self._training = self._model.training
                self._model.eval()
            self._calls += 1
        try:
            yield
        finally:
            with self._lock:
                self._calls -= 1
                if not self._calls and self._training:
                    self._model.train()


class ProgramEngine:
    """The exported network; any batch size and any number of frames that the network allows.

    Threads may share it and take turns: one thread of its own runs the program for all of them. The working memory of
    oneDNN belongs to a thread, so that each further one would cost some 200 MiB for a network of the released size, and
    PaddlePaddle 3.0 cannot run one program in several threads. The result has the same bits in any thread.
    """

    def __init__(
        self,
        model: Any,
        precision: str = "float32",
        weights_hash: str | None = None,
        say: Callable[[str], None] = log,
    ):
        self.name = "program" if precision == "float32" else f"program {precision}"
        self._thread = ThreadPoolExecutor(1, "program")  # ends with the engine
        key = program_key(model, weights_hash)
        try:
            self._predictor = _cached_predictor(model, key, precision, say)
        except OSError as error:
            say(f"the exported program is not kept: {cache_folder(_FOLDER)} cannot be written ({error.strerror})")
            with tempfile.TemporaryDirectory(prefix="paddlestems-") as folder:
                export(model, Path(folder))
                self._predictor = _predictor(Path(folder), precision)

    def __call__(self, batch: np.ndarray) -> np.ndarray:
        return self._thread.submit(_run, self._predictor, batch).result()


def device_in_force() -> str:
    """The device that paddle computes on, as it spells it."""
    import paddle

    return paddle.get_device()


def threads() -> int:
    """Threads for the network: ``OMP_NUM_THREADS``, else the processors this process may use."""
    wish = os.environ.get("OMP_NUM_THREADS", "")
    if wish.isdigit() and int(wish):
        return int(wish)
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def cpu_has_bf16() -> bool:
    """Whether the processor multiplies bfloat16 numbers itself."""
    with contextlib.suppress(OSError):
        flags = Path("/proc/cpuinfo").read_text(encoding="ascii", errors="ignore")
        return "avx512_bf16" in flags or "amx_bf16" in flags
    return False


def program_key(model: Any, weights_hash: str | None = None) -> str:
    """Name of the exported program: everything that its numbers depend on."""
    import paddle

    if weights_hash is None:
        weights_hash = checkpoint.weights_hash({name: value.numpy() for name, value in model.state_dict().items()})
    identity = {
        "format": _FORMAT,
        "network": type(model).__qualname__,
        "config": dict(model.description.config),
        "weights": weights_hash,
        "paddle": paddle.__version__,
        "code": _code_hash(),
    }
    text = json.dumps(identity, sort_keys=True, default=list)
    return f"{model.description.name}-{hashlib.sha256(text.encode()).hexdigest()[:20]}"


def export(model: Any, folder: Path) -> None:
    """Write the program of ``model`` into ``folder`` and compare it with the model, which stays as it is.

    Axes: ``[batch, channels, time, F]``, batch and time of any size.
    Raises RuntimeError if the program computes something else.
    """
    import paddle

    description = model.description
    channels, bins = description.channels, description.config["frequency_bins"]
    training = model.training
    layers = model.sublayers(include_self=True)
    forwards = [vars(layer).get("forward") for layer in layers]
    model.eval()
    try:
        spec = [paddle.static.InputSpec([None, channels, None, bins], "float32", "magnitude")]
        paddle.jit.save(model, str(folder / Path(_PROGRAM).stem), input_spec=spec)
    finally:
        # the export leaves translated methods in the layers; eager calls of them are slower with every export
        for layer, forward in zip(layers, forwards, strict=True):
            vars(layer).pop("forward", None)
            if forward is not None:
                layer.forward = forward
        if training:
            model.train()
    batch = np.abs(np.random.default_rng(0).standard_normal((1, channels, 64, bins))).astype(np.float32)
    expected, result = EagerEngine(model)(batch), _run(_predictor(folder, "float32"), batch)
    error = float(np.abs(result - expected).max() / max(1e-9, np.abs(expected).max()))
    if not error <= _TOLERANCE:
        raise RuntimeError(f"the exported program deviates from the network by {error:.1e} of its largest output")
    write_json(folder / _FACTS, {name: (folder / name).stat().st_size for name in (_PROGRAM, _PARAMETERS)})


def _cached_predictor(model: Any, key: str, precision: str, say: Callable[[str], None]) -> Any:
    folder = cache_folder(_FOLDER) / key
    damage = "files are missing or cut short" if folder.exists() and not _complete(folder) else None
    if damage is None and folder.exists():
        try:
            predictor = _predictor(folder, "float32")
        except Exception as error:  # whatever paddle thinks of a damaged file
            damage = _last_line(error)
        else:
            if precision != "float32":
                predictor = _predictor(folder, precision)
            with contextlib.suppress(OSError):  # the time of use matters for tidying up only
                os.utime(folder)
            return predictor
    if damage is not None:
        say(f"the exported program in {folder} is damaged and made anew: {damage}")
        shutil.rmtree(folder)
    try:
        with atomic_folder(folder) as temporary:
            export(model, temporary)
    except OSError:
        if not _complete(folder):  # else another process was faster
            raise
    _forget_old(folder.parent)
    return _predictor(folder, precision)


def _complete(folder: Path) -> bool:
    """Whether all files are there in the sizes they were written with."""
    try:
        sizes = read_json(folder / _FACTS)
        return all((folder / name).stat().st_size == size for name, size in sizes.items())
    except (UserError, OSError, AttributeError):
        return False


def _forget_old(root: Path) -> None:
    folders = sorted((path for path in root.glob("*-*") if _complete(path)), key=lambda path: path.stat().st_mtime)
    for folder in folders[:-_KEPT]:
        shutil.rmtree(folder, ignore_errors=True)


def _predictor(folder: Path, precision: str) -> Any:
    from paddle import inference

    config = inference.Config(str(folder / _PROGRAM), str(folder / _PARAMETERS))
    config.disable_gpu()
    config.disable_glog_info()
    config.enable_mkldnn()
    config.set_cpu_math_library_num_threads(threads())
    if precision == "bf16":
        config.enable_mkldnn_bfloat16()
    return inference.create_predictor(config)


def _run(predictor: Any, batch: np.ndarray) -> np.ndarray:
    predictor.get_input_handle(predictor.get_input_names()[0]).copy_from_cpu(np.ascontiguousarray(batch, np.float32))
    predictor.run()
    return predictor.get_output_handle(predictor.get_output_names()[0]).copy_to_cpu()


def _code_hash() -> str:
    """Fingerprint of the networks' source: an exported program must not outlive the code it was traced from."""
    import models

    digest = hashlib.sha256()
    for path in sorted(Path(models.__file__).parent.rglob("*.py")):
        digest.update(path.name.encode() + b"\0" + path.read_bytes())
    return digest.hexdigest()[:12]


def _last_line(error: Exception) -> str:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return f"{type(error).__name__}: {lines[-1] if lines else ''}"
