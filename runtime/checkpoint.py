"""Checkpoints: a folder of safetensors and one ``state.json``, whole and verified or not there at all.

``<run>/checkpoints/step-00000123/`` holds ``<group>.safetensors`` per group of arrays (model, optimizer, ema …) and
``state.json``: what the trainer saved (signature, config, step, epoch, states of random generators, history, metrics)
and the format version, the time, and the SHA-256 of every array file. ``<run>/best/`` holds the best one in the same
form. A folder without a readable ``state.json`` is no checkpoint; unfinished ones have names beginning with ``.tmp-``.
"""

from __future__ import annotations

import hashlib
import os
import re
import time
from collections.abc import Iterable, Mapping
from pathlib import Path

import numpy as np

from runtime.disk import sha256
from runtime.errors import UserError
from runtime.files import atomic_folder, read_json, remove_folder, remove_leftovers, write_json

FORMAT = 1
STATE = "state.json"
_STEP = re.compile(r"step-(\d{8,})")


def save(folder: str | os.PathLike, groups: Mapping[str, Mapping[str, np.ndarray]], state: Mapping) -> Path:
    """Write a checkpoint into ``folder`` (``<run>/checkpoints`` or ``<run>/best``) and return its path.

    ``groups``: name of a group → name of an array → array of any shape; ``state`` must be JSON (numpy numbers and
    arrays become numbers and lists) and have ``step``, which names the checkpoint. One of the same step is replaced.
    Call it in one process only. Leftovers of killed saves are removed. Raises `UserError` if the disk is full.
    """
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    remove_leftovers(folder)
    target = folder / f"step-{state['step']:08d}"
    with atomic_folder(target, replace=True) as temporary:
        files = {}
        for group, arrays in groups.items():
            path = temporary / f"{group}.safetensors"
            write_arrays(path, arrays, f"{path.name} to {folder}")
            files[path.name] = sha256(path)
        write_json(temporary / STATE, {"format": FORMAT, "saved_at": time.time(), **state, "sha256": files})
    return target


def load(
    folder: str | os.PathLike, groups: Iterable[str] | None = None, network: str | None = None
) -> tuple[dict[str, dict[str, np.ndarray]], dict]:
    """Read and verify a checkpoint: ``(groups, state)`` as they were saved, all groups or only the named ones.

    Raises `UserError` if the folder is no checkpoint, is of a newer format, lacks a group, is of another network than
    ``network`` (compared with ``state["network"]``), or if a file is missing, cut short or changed.
    """
    folder = Path(folder)
    state = read_state(folder)
    if network is not None and state.get("network") != network:
        raise UserError(f"{folder} is a checkpoint of {state.get('network')}, not of {network}: choose another")
    names = [name.removesuffix(".safetensors") for name in state["sha256"]]
    wanted = names if groups is None else list(groups)
    if missing := [group for group in wanted if group not in names]:
        raise UserError(f"{folder} has no {', '.join(missing)}; it holds {', '.join(names)}")
    return {group: _read(folder / f"{group}.safetensors", state) for group in wanted}, state


def read_state(folder: str | os.PathLike) -> dict:
    """The ``state.json`` of a checkpoint; `UserError` if ``folder`` is none or is of a newer format."""
    folder = Path(folder)
    if not (folder / STATE).is_file():
        raise UserError(f"{folder} is not a checkpoint: it has no {STATE}")
    state = read_json(folder / STATE)
    if not isinstance(state, dict) or not isinstance(state.get("sha256"), dict):
        raise UserError(f"{folder / STATE} is not the state of a checkpoint")
    if state.get("format", 0) > FORMAT:
        raise UserError(f"{folder} was written by a newer version (format {state['format']}): update the program")
    return state


def write_arrays(
    path: Path, arrays: Mapping[str, np.ndarray], what: str, metadata: Mapping[str, str] | None = None
) -> None:
    """Write a safetensors file; ``what`` says in an error what was written where. `UserError` if the disk is full."""
    from safetensors import SafetensorError
    from safetensors.numpy import save_file

    try:
        # safetensors copies raw memory: only arrays in C order come out as they went in
        save_file({name: np.asarray(array, order="C") for name, array in arrays.items()}, path, metadata)
    except SafetensorError as error:  # what the system said is in it, but not as an OSError
        raise UserError(f"cannot write {what} ({error}): free some space") from error


def _read(path: Path, state: dict) -> dict[str, np.ndarray]:
    from safetensors import SafetensorError
    from safetensors.numpy import load_file

    if not path.is_file():
        raise UserError(f"{path} is missing: the checkpoint is incomplete, use another one")
    if sha256(path) != state["sha256"][path.name]:
        raise UserError(f"{path} is damaged (cut short or changed: its checksum is wrong), use another checkpoint")
    try:
        return load_file(path)
    except SafetensorError as error:
        raise UserError(f"{path} is not a safetensors file ({error})") from error


# ------------------------------------------------------------------------------------------------ choosing among them


def steps(folder: str | os.PathLike) -> list[Path]:
    """The complete checkpoints in ``folder``, oldest step first."""
    found = [path for path in Path(folder).glob("step-*") if _STEP.fullmatch(path.name) and (path / STATE).is_file()]
    return sorted(found, key=lambda path: int(_STEP.fullmatch(path.name)[1]))


def latest(run: str | os.PathLike) -> Path | None:
    """The checkpoint of the highest step in ``<run>/checkpoints``, or ``None``."""
    return next(reversed(steps(Path(run, "checkpoints"))), None)


def best(run: str | os.PathLike) -> Path | None:
    """The checkpoint in ``<run>/best``, or ``None``."""
    return next(reversed(steps(Path(run, "best"))), None)


def rotate(folder: str | os.PathLike, keep: int) -> None:
    """Remove all but the ``keep`` newest checkpoints in ``folder`` (``<run>/checkpoints`` or ``<run>/best``)."""
    for path in steps(folder)[: -keep or None]:
        remove_folder(path)


def newest(root: str | os.PathLike = "model", network: str | None = None, prefer: str = "best") -> Path:
    """The best (or last, ``prefer="last"``) checkpoint of the run below ``root`` that was saved to most recently.

    ``network`` leaves only runs of this network. Raises `UserError` if there is none.
    """
    root = Path(root)
    runs: dict[Path, float] = {}
    for path in root.rglob(STATE):
        folder = path.parent
        if _STEP.fullmatch(folder.name) and folder.parent.name in ("checkpoints", "best"):
            state = read_state(folder)
            if network is None or state.get("network") == network:
                run = folder.parents[1]
                runs[run] = max(runs.get(run, 0.0), state.get("saved_at", 0.0))
    if not runs:
        whose = f" of {network}" if network else ""
        raise UserError(f"there is no checkpoint{whose} below {root}: train one first, or name the weights to use")
    run = max(runs, key=runs.__getitem__)
    found = (best(run), latest(run)) if prefer == "best" else (latest(run), best(run))
    return next(path for path in found if path is not None)


def weights_hash(arrays: Mapping[str, np.ndarray]) -> str:
    """Twelve hexadecimal digits that name a set of arrays: names, types, shapes and values, in any order."""
    digest = hashlib.sha256()
    for name in sorted(arrays):
        array = np.asarray(arrays[name], order="C")
        digest.update(f"{name}\0{array.dtype.str}\0{array.shape}\0".encode())
        digest.update(array.tobytes())
    return digest.hexdigest()[:12]
