"""Configurations with the keys of the Apollo-Training fork, as the keys of ``configs/apollo``. Imports no paddle.

Sections have a ``_target_``, the class that the fork makes of them; a table says which of these there is something for
here. Everything is either used, or said to be without effect, or refused: nothing passes unseen.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

from runtime.config_files import readable_errors
from runtime.errors import UserError
from runtime.nearest import did_you_mean

MARKS = {"exp", "datas"}  # sections that only such a configuration has
ENDLESS = 1_000_000  # epochs, for no limit; checkpoints, for all of them

Keys = dict[str, Any]


class Translation(NamedTuple):
    """What a configuration says.

    Attributes:
        name: of the run
        keys: dotted key of ``configs/apollo/base.yaml`` -> value
        notes: lines about what has another effect here, or none
    """

    name: str
    keys: Keys
    notes: tuple[str, ...]


def is_original(path: str | Path) -> bool:
    """Whether a file is a configuration with the fork's keys."""
    from omegaconf import OmegaConf

    if not Path(path).is_file():
        return False
    with readable_errors(str(path)):
        content = OmegaConf.load(path)
    return OmegaConf.is_dict(content) and bool(content.keys() & MARKS)


@contextmanager
def as_ours(path: str | Path) -> Iterator[tuple[Path, tuple[str, ...]]]:
    """A file with the keys of ``configs/apollo`` for one with the fork's, and what is to be said about it.

    Raises:
        UserError: see `translate`
    """
    from omegaconf import OmegaConf

    name, keys, notes = translate(path)
    content = OmegaConf.create({"defaults": ["apollo/base", "_self_"], "config_name": name})
    for key, value in keys.items():
        OmegaConf.update(content, key, value, force_add=True)
    with tempfile.TemporaryDirectory() as scratch:
        file = Path(scratch, "apollo.yaml")
        OmegaConf.save(content, file)
        yield file, notes


def translate(path: str | Path) -> Translation:
    """Reads a configuration with the fork's keys.

    Raises:
        UserError: unreadable; a section or key that is not known, or a value or class that there is nothing for
    """
    from omegaconf import OmegaConf

    with readable_errors(str(path)):
        whole = OmegaConf.to_container(OmegaConf.load(path), resolve=True)
    if unknown := [name for name in whole if name not in (*SECTIONS, "seed")]:
        raise UserError(f"{path}: unknown section {unknown[0]}: {did_you_mean(unknown[0], [*SECTIONS, 'seed'])}")
    keys: Keys = {} if whole.get("seed") is None else {"train.seed": whole["seed"]}
    keys |= {"train.early_stop.patience": None, "train.visualdl": "logger" in whole}
    notes: list[str] = []
    for name, targets in SECTIONS.items():
        section = whole.get(name)
        if section is None:
            continue
        if not isinstance(section, Mapping):
            raise UserError(f"{path}: {name} must consist of 'key: value' lines")
        reader = _Section(str(path), name, dict(section), notes)
        target = reader.take("_target_", next(iter(targets)))
        if target not in targets:
            known = ", ".join(text for text in targets if text)
            raise UserError(f"{path}: {name}._target_={target}: there is nothing for it here, only for {known}")
        keys |= targets[target](reader)
        reader.finish()
    return Translation(str((whole.get("exp") or {}).get("name") or "apollo"), keys, tuple(notes))


class _Section:
    """One section, from which each key is taken once."""

    def __init__(self, file: str, name: str, values: Keys, notes: list[str]):
        self.file, self.name, self.values, self.notes = file, name, values, notes
        self.known: list[str] = []

    def take(self, key: str, default: Any = None) -> Any:
        self.known.append(key)
        return self.values.pop(key, default)

    def within(self, key: str) -> _Section:
        """A section of this one."""
        return _Section(self.file, f"{self.name}.{key}", dict(self.take(key) or {}), self.notes)

    def renamed(self, names: Mapping[str, str]) -> Keys:
        """The keys that are there, under other names."""
        self.known += names
        return {new: self.values.pop(old) for old, new in names.items() if old in self.values}

    def demand(self, key: str, *allowed: Any) -> None:
        """Refuses any value but the default, the first, and others that are as good."""
        value = self.take(key, allowed[0])
        if value not in allowed:
            choices = " or ".join(map(str, allowed))
            raise UserError(f"{self.file}: {self.name}.{key}={value}: only {choices} is possible here")

    def ignore(self, *keys: str) -> None:
        """Keys that change nothing here."""
        for key in keys:
            self.take(key)

    def note(self, text: str) -> None:
        self.notes.append(f"{self.name}: {text}")

    def finish(self) -> None:
        """Raises `UserError` if anything is left."""
        for key in self.values:
            raise UserError(f"{self.file}: unknown key {self.name}.{key}: {did_you_mean(key, self.known)}")


# ----------------------------------------------------------------------------------------------------- the sections


def _exp(section: _Section) -> Keys:
    section.ignore("name")
    return section.renamed({"dir": "model_dir"})


def _datas(section: _Section) -> Keys:
    stems = section.within("stems")
    keys: Keys = {"data.stems": [stems.take(half, half) for half in ("original", "codec")]}
    stems.finish()
    for part in ("train", "valid"):
        reader = section.within(part)
        folders = reader.take("dir") or []
        keys[f"data.{part}.folders"] = [folders] if isinstance(folders, str) else list(folders)
        formats = ("original_format", "codec_format")
        keys |= reader.renamed({name: f"data.{part}.{name}" for name in formats})
        reader.finish()
    section.ignore("sr", "pin_memory")  # the model's rate counts
    names = {"dataset_type": "type", "segments": "segment", "num_steps": "samples_per_epoch", "num_workers": "workers"}
    keys |= section.renamed({old: f"data.{new}" for old, new in names.items()})
    return keys | section.renamed({"batch_size": "train.batch_size"})


def _model(section: _Section) -> Keys:
    return section.renamed({name: f"model.{name}" for name in ("sr", "win", "feature_dim", "layer")})


def _discriminator(section: _Section) -> Keys:
    return section.renamed({"nch": "model.channels", "window": "discriminator.window"})


def _adam(decay: float) -> Callable[[_Section], Keys]:
    def read(section: _Section) -> Keys:
        place = "train" if section.name == "optimizer_g" else "train.discriminator"
        names = {"lr": "lr", "betas": "betas", "eps": "epsilon"}
        keys = section.renamed({old: f"{place}.{new}" for old, new in names.items()})
        value = section.take("weight_decay", decay)
        if value and not decay:
            raise UserError(f"{section.file}: {section.name}: Adam with weight_decay={value}: take torch.optim.AdamW")
        return keys | {f"{place}.weight_decay": value}

    return read


def _steps(section: _Section) -> Keys:
    return _by_epoch(section, section.take("step_size", 1))


def _exponential(section: _Section) -> Keys:
    return _by_epoch(section, 1)


def _by_epoch(section: _Section, every: int) -> Keys:
    place = "train.schedule" if section.name == "scheduler_g" else "train.discriminator.schedule"
    keys = {"kind": "epoch", "warmup_epochs": 0, "every": every, "factor": section.take("gamma", 0.1)}
    return {f"{place}.{name}": value for name, value in keys.items()}


def _generator_loss(section: _Section) -> Keys:
    return section.renamed({"eps": "train.feature_epsilon"})


def _discriminator_loss(section: _Section) -> Keys:
    section.ignore("eps")  # the original does not use it either
    return {}


def _metric(section: _Section) -> Keys:
    section.demand("zero_mean", True)
    section.demand("take_log", True)
    return section.renamed({"sdr_type": "train.metric"})


def _nothing(section: _Section) -> Keys:
    return {}


def _early_stopping(section: _Section) -> Keys:
    section.demand("monitor", "val_loss")
    section.demand("mode", "min")
    section.ignore("verbose")
    keys = {"train.early_stop.patience": section.take("patience", 3)}
    return keys | section.renamed({"min_delta": "train.early_stop.min_delta"})


def _checkpoint(section: _Section) -> Keys:
    section.demand("monitor", "val_loss")
    section.demand("mode", "min")
    section.ignore("verbose", "dirpath", "filename", "save_last")
    section.note("the best weights are in the folder top of the run, the last state is always kept in checkpoints")
    count = section.take("save_top_k", 1)
    return {"train.keep_best": count if count >= 0 else ENDLESS}


def _logger(section: _Section) -> Keys:
    section.values.clear()
    section.note("curves are written for VisualDL, nothing is sent anywhere")
    return {}


def _trainer(section: _Section) -> Keys:
    section.ignore("default_root_dir", "sync_batchnorm", "enable_model_summary", "enable_progress_bar", "strategy")
    keys: Keys = {"train.processes": _processes(section)}
    if section.take("accelerator", "auto") == "cpu":
        keys["device"] = "cpu"
    epochs = section.take("max_epochs", 1000)
    keys["train.epochs"] = epochs if epochs is not None and epochs >= 0 else ENDLESS
    steps = section.take("max_steps", -1)
    if steps >= 0:
        keys["train.steps"] = steps
    if dev := section.take("fast_dev_run", False):
        keys["train.steps"] = 1 if dev is True else dev
    if section.take("limit_train_batches", 1.0) not in (1.0, None):
        raise UserError(f"{section.file}: trainer.limit_train_batches: say how long an epoch is with datas.num_steps")
    precision = section.take("precision", 32)
    if str(precision) not in ("32", "32-true", "64"):
        section.note(f"precision={precision}: it is computed in float32")
    return keys


def _processes(section: _Section) -> int:
    devices = section.take("devices", 1)
    if isinstance(devices, list):
        return len(devices)
    if isinstance(devices, int) and devices > 0:
        return devices
    section.note(f"devices={devices}: one process; -npn says how many")
    return 1


_ADAM = {"torch.optim.AdamW": _adam(0.01), "torch.optim.Adam": _adam(0.0)}
_SCHEDULER = {
    "torch.optim.lr_scheduler.StepLR": _steps,
    "torch.optim.lr_scheduler.ExponentialLR": _exponential,
}
_LOGGERS = ("WandbLogger", "TensorBoardLogger", "CSVLogger")

# section -> the class that it makes in the fork -> what reads it here; the first counts where none is named
SECTIONS: dict[str, dict[str | None, Callable[[_Section], Keys]]] = {
    "exp": {None: _exp},
    "datas": {"look2hear.datas.DataModule": _datas},
    "model": {"look2hear.models.apollo.Apollo": _model, "look2hear.models.Apollo": _model},
    "discriminator": {"look2hear.discriminators.frequencydis.MultiFrequencyDiscriminator": _discriminator},
    "optimizer_g": _ADAM,
    "optimizer_d": _ADAM,
    "scheduler_g": _SCHEDULER,
    "scheduler_d": _SCHEDULER,
    "loss_g": {"look2hear.losses.gan_losses.MultiFrequencyGenLoss": _generator_loss},
    "loss_d": {"look2hear.losses.gan_losses.MultiFrequencyDisLoss": _discriminator_loss},
    "metrics": {"look2hear.losses.MultiSrcNegSDR": _metric},
    "system": {"look2hear.system.audio_litmodule.AudioLightningModule": _nothing},
    "early_stopping": {"pytorch_lightning.callbacks.EarlyStopping": _early_stopping},
    "checkpoint": {"pytorch_lightning.callbacks.ModelCheckpoint": _checkpoint},
    "logger": {f"pytorch_lightning.loggers.{name}": _logger for name in _LOGGERS},
    "trainer": {"pytorch_lightning.Trainer": _trainer},
}
