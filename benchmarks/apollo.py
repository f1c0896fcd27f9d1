"""Apollo at its published size, beside the original's layers in PyTorch.

Two units of work: the network's pass over one chunk of a song, ten seconds of stereo, and one step of training on one
second, because PyTorch takes nine gigabytes for it: the discriminator's losses, gradient, limit and AdamW, then the
generator's. Same weights, same threads; what both sides compute is compared before anything is timed.
"""

import tempfile
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np

from benchmarks import weights
from benchmarks.harness import Row, Task, off_by, race, serve, serve_results, take_side
from benchmarks.sounds import music

NETWORK = "apollo"
UNITS = {"restore": ("network, one chunk", 10.0), "train": ("adversarial training step", 1.0)}  # what it is, seconds
QUICK = {"restore": 1.0, "train": 0.25}


def pair(seconds: float) -> dict[str, np.ndarray]:
    """Music and what is left of it where every fifth sample is kept, ``[1, 2, N]`` each."""
    original = music(seconds)
    return {"codec": np.repeat(original[..., ::5], 5, axis=-1)[..., : original.shape[-1]], "original": original}


def settings() -> Any:
    """The configuration of the training step: the published one."""
    from runtime import config

    return config.load("apollo/base")


def paddle_side(task: Task) -> None:
    from runtime import device

    device.activate(chosen := device.select("cpu"))
    import paddle

    import models
    from pretrained import load_reference_state

    model, sound = models.create(NETWORK), pair(task.options["seconds"])
    load_reference_state(model, weights.read(task.weights))
    if task.unit == "restore":
        model.eval()
        codec = paddle.to_tensor(sound["codec"])
        with paddle.no_grad():
            serve_results(task.output, lambda: model(codec)[:, 0].numpy())
        return
    trainer, losses = adversaries(settings(), model, weights.read(Path(task.options["discriminator"])), sound, chosen)

    def step() -> dict[str, float]:
        trainer.update()
        return losses

    serve(step)


def adversaries(cfg: Any, model: Any, discriminator: dict[str, np.ndarray], batch: dict, device: Any) -> tuple:
    """Our trainer of ``model`` on one batch for ever, and the losses of its last step."""
    from pretrained import load_reference_state
    from runtime.distributed import Group
    from training.adversarial import AdversarialTrainer
    from training.interrupts import StopRequests
    from training.recipes.apollo import ApolloRecipe

    recipe, losses = ApolloRecipe(cfg), {}
    state = AdversarialTrainer.begin(cfg, recipe, model, device)
    load_reference_state(state.opponent.model, discriminator)
    for network in (model, state.opponent.model):
        network.train()
    stream = SimpleNamespace(next=lambda: batch)
    journal = SimpleNamespace(step=lambda state, values, *_: losses.update(values))
    trainer = AdversarialTrainer(cfg, recipe, state, stream, None, Group(), journal, StopRequests(), Path(), {})
    return trainer, losses


def torch_side(task: Task) -> None:
    import torch

    from benchmarks.torch_apollo import TorchAdversaries, TorchApollo, TorchDiscriminator
    from models.apollo_config import ApolloConfig

    config = ApolloConfig()
    model = TorchApollo(vars(config), config.widths(), weights.read(task.weights))
    codec, original = (torch.from_numpy(each) for each in pair(task.options["seconds"]).values())
    if task.unit == "restore":
        model.eval()
        with torch.inference_mode():
            serve_results(task.output, lambda: model(codec).numpy())
        return
    cfg = settings()
    arrays = weights.read(Path(task.options["discriminator"]))
    discriminator = TorchDiscriminator(cfg.model.channels, cfg.discriminator.window, arrays)
    pupils = TorchAdversaries(cfg.train, model.train(), discriminator.train())
    serve(lambda: pupils.step(codec, original))


def measure(quick: bool = False) -> Iterator[Row]:
    """A row a unit of work."""
    with tempfile.TemporaryDirectory() as scratch:
        state = weights.write(NETWORK, Path(scratch, "weights.npz"))
        discriminator = weights.write("apollo_discriminator", Path(scratch, "discriminator.npz"))
        for unit, (what, usual) in UNITS.items():
            seconds = QUICK[unit] if quick else usual
            options = {"seconds": seconds, "discriminator": str(discriminator)}
            times, note = race(__name__, unit, state, options, off_by("waveforms"), runs=3)
            yield Row(f"{what}, {NETWORK}", times, f"{seconds:g} s of stereo, {note}")


if __name__ == "__main__":
    take_side(paddle_side, torch_side)
