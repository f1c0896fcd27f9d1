"""Writes files in the form of ``torch.save``, without torch: what the reader of packages is tried on everywhere."""

import io
import pickle
import struct
import zipfile
from collections import OrderedDict

import numpy as np

_STORAGES = {
    "float64": "Double",
    "float32": "Float",
    "float16": "Half",
    "int64": "Long",
    "int16": "Short",
    "uint8": "Byte",
}


class Global:
    """A name that the pickle asks for, such as ``Global("demucs.demucs", "Demucs")``."""

    def __init__(self, module, name):
        self.module, self.name = module, name


class Call:
    """What calling a global gives."""

    def __init__(self, function, *arguments):
        self.function, self.arguments = function, arguments


class Made:
    """An object as protocol 2 makes it: of a class, without calling it, from a state and the items of a dict."""

    def __init__(self, kind, state=None, items=()):
        self.kind, self.state, self.items = kind, state, dict(items)


class Storage:
    """The numbers of an array without its shape; ``key`` is its name in the file."""

    def __init__(self, key, array):
        self.key, self.array = key, array


class _Pickler(pickle._Pickler):
    """Python's own pickler, taught three more things; protocol 2, as torch uses."""

    def __init__(self, handle):
        super().__init__(handle, 2)
        self.storages = []

    def persistent_id(self, value):
        if not isinstance(value, Storage):
            return None
        kind = Global("torch", _STORAGES[str(value.array.dtype)] + "Storage")
        return ("storage", kind, value.key, "cpu", value.array.size)

    def save(self, value, save_persistent_id=True):
        if isinstance(value, Global):
            self.write(pickle.GLOBAL + f"{value.module}\n{value.name}\n".encode())
        elif isinstance(value, Call):
            self.save(value.function)
            self.save(tuple(value.arguments))
            self.write(pickle.REDUCE)
        elif isinstance(value, Made):
            self.save(value.kind)
            self.write(pickle.EMPTY_TUPLE + pickle.NEWOBJ)
            self._batch_setitems(value.items.items())
            if value.state is not None:
                self.save(value.state)
                self.write(pickle.BUILD)
        elif isinstance(value, np.ndarray):
            storage = Storage(str(len(self.storages)), value)
            self.storages.append(storage)
            strides = tuple(step // value.itemsize for step in value.strides)
            rebuild = Global("torch._utils", "_rebuild_tensor_v2")
            empty = Call(Global("collections", "OrderedDict"))
            self.save(Call(rebuild, storage, 0, value.shape, strides, False, empty))
        else:
            super().save(value, save_persistent_id)


def save(value, path, legacy=False):
    """``torch.save(value, path)`` for containers, numbers and numpy arrays in C order."""
    content = io.BytesIO()
    pickler = _Pickler(content)
    pickler.dump(value)
    if legacy:
        return _save_legacy(content, pickler.storages, path)
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("archive/data.pkl", content.getvalue())
        archive.writestr("archive/byteorder", "little")
        for storage in pickler.storages:
            archive.writestr(f"archive/data/{storage.key}", storage.array.tobytes())
        archive.writestr("archive/version", "3\n")


def _save_legacy(content, storages, path):
    with open(path, "wb") as handle:
        for plain in (0x1950A86A20F9469CFC6C, 1001, {"protocol_version": 1001, "little_endian": True}):
            pickle.dump(plain, handle, 2)
        handle.write(content.getvalue())
        pickle.dump([storage.key for storage in storages], handle, 2)
        for storage in storages:
            handle.write(struct.pack("<q", storage.array.size) + storage.array.tobytes())


def omegaconf(value):
    """A configuration as OmegaConf pickles it."""
    facts = {"_metadata": Made(Global("omegaconf.base", "Metadata"), {"ref_type": Global("typing", "Any")})}
    if isinstance(value, dict):
        content = {key: omegaconf(item) for key, item in value.items()}
        return Made(Global("omegaconf.dictconfig", "DictConfig"), {**facts, "_content": content})
    if isinstance(value, list):
        return Made(
            Global("omegaconf.listconfig", "ListConfig"), {**facts, "_content": [omegaconf(item) for item in value]}
        )
    return Made(Global("omegaconf.nodes", "AnyNode"), {**facts, "_val": value})


def lightning(state, average=None, hyper_parameters=None):
    """A checkpoint of Lightning with a network's state (name -> array) and, by an optimiser, its average."""
    moments = {number: {"step": 3, "exp_avg": array * 0} for number, array in enumerate(state.values())}
    optimiser = {"state": moments, "param_groups": [{"lr": 1e-3, "betas": (0.9, 0.999)}]}
    if average is not None:
        optimiser = {"opt": optimiser, "ema": tuple(average.values()), "decay": 0.9999, "current_step": 3}
    window = np.hanning(8).astype(np.float32)
    stop = Made(Global("pytorch_lightning.utilities.enums", "Reason"), {"best": np.float32([0.5])})
    content = {
        "epoch": 1,
        "pytorch-lightning_version": "1.9.2",
        "state_dict": OrderedDict(
            [("featurizer.window", window), *((f"model.{name}", array) for name, array in state.items())]
        ),
        "callbacks": {"EarlyStopping": {"best_score": np.float32([0.5]), "reason": stop}},
        "loops": Made(Global("lightning.fabric.utilities.data", "AttributeDict"), items={"fit_loop": {}}),
        "optimizer_states": [optimiser],
        "lr_schedulers": [{"lr_lambdas": [None]}],
    }
    if hyper_parameters is not None:
        content["hyper_parameters"] = omegaconf(hyper_parameters)
        content["hparams_type"] = Global("omegaconf.dictconfig", "DictConfig")
    return content


def package(klass, state, *args, training=None, **kwargs):
    """The dict that the original exports."""
    module, _, name = klass.rpartition(".")
    return {
        **{"klass": Global(module, name), "args": args, "kwargs": kwargs, "state": OrderedDict(state)},
        "training_args": training or {},
    }


def pack_64(levels, bits):
    """DiffQ's packing: int64 ``[lines, bits, 32]``."""
    padded = np.zeros(-(-levels.size // 2048) * 2048, np.int64)
    padded[: levels.size] = levels.reshape(-1)
    lines = padded.reshape(-1, 64, 32)  # [lines, bit of the word, word]
    places = np.arange(64, dtype=np.uint64)[None, :, None]
    planes = [
        ((lines >> bit & 1).astype(np.uint64) << places).sum(axis=1, dtype=np.uint64).view(np.int64)
        for bit in range(bits)
    ]
    return np.ascontiguousarray(np.stack(planes, axis=1))


def quantised(parameters, widths, group_size=8, min_size=0.2, min_bits=2):
    """A state that DiffQ has packed, and the arrays that it stands for.

    ``parameters``: name -> float32 array, in the order of the network; ``widths``: name -> bits of each group.
    """
    packed, others, expected = [], [], {}
    for name, array in parameters.items():
        if array.size <= min_size * 2**20 // 4:
            others.append(array)
            expected[name] = array
            continue
        bits = widths[name]
        low, high = float(array.min()), float(array.max())
        steps = np.float32(1) / (np.exp2(bits.astype(np.float32)) - np.float32(1))[:, None]
        levels = np.rint((array.reshape(len(bits), group_size) - low) / (high - low) / steps).astype(np.int64)
        by_width = [pack_64(levels[bits == b], b) if (bits == b).any() else None for b in range(1, 15)]
        most = int(bits.max()) - min_bits
        packed.append((by_width, (low, high), pack_64(bits - min_bits, max(1, most.bit_length()))))
        values = levels.astype(np.float32) * steps * np.float32(high - low) + np.float32(low)
        expected[name] = values.reshape(array.shape)
    meta = {
        "init_kwargs": {"min_size": min_size, "group_size": group_size},
        **{"klass": Global("diffq.diffq", "DiffQuantizer"), "packed": True, "torch_pack": False},
    }
    return {"quantized": packed, "float16": [], "others": others, "meta": meta, "__quantized": True}, expected
