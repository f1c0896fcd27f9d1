"""The training loop of a network that is trained against another one: first that one's update, then the network's."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import Any, Protocol

import paddle

from runtime.device import Device
from training import gradients
from training.recipes import Batch, Recipe
from training.schedule import learning_rate
from training.state import Opponent, State
from training.trainer import Trainer


class AdversarialRecipe(Recipe, Protocol):
    """How a network and the discriminator it is trained against are trained."""

    def opponent(self, source: Path | None) -> Opponent:
        """The discriminator, with the weights in ``source`` if it has some, and its optimiser."""

    def output(self, model: paddle.nn.Layer, batch: Batch) -> paddle.Tensor:
        """What the network makes of a batch."""

    def discriminator_loss(self, discriminator: paddle.nn.Layer, output: paddle.Tensor, batch: Batch) -> paddle.Tensor:
        """How badly the discriminator tells ``output`` from what is real."""

    def generator_loss(
        self, discriminator: paddle.nn.Layer, output: paddle.Tensor, batch: Batch
    ) -> tuple[paddle.Tensor, dict[str, paddle.Tensor]]:
        """Mean loss of the network whose ``output`` this is, and its terms."""


class AdversarialTrainer(Trainer):
    """A step is an update of the discriminator, by what the network makes now, and then one of the network.

    Neither network is wrapped for several processes: each pass through the discriminator has a meaning of its own, so
    the gradients are averaged over the processes here, once for each network and step.
    """

    recipe: AdversarialRecipe

    @staticmethod
    def begin(
        cfg: Any, recipe: AdversarialRecipe, model: paddle.nn.Layer, device: Device, source: Path | None = None
    ) -> State:
        state = Trainer.begin(cfg, recipe, model, device)
        state.opponent = recipe.opponent(source)
        return state

    def __post_init__(self) -> None:
        self.network, self.optimizer = self.state.model, self.state.optimizer
        self.saved_step = self.state.step or None
        if self.state.opponent is None:
            raise ValueError("there is nothing to train against")
        self.opponent = self.state.opponent

    def _set_rate(self, epoch: int) -> float:
        self.opponent.optimizer.set_lr(learning_rate(self.cfg.train.discriminator, self.state.step, epoch))
        return super()._set_rate(epoch)

    def _gradients(self, batches: list[Batch]) -> tuple[list[dict[str, float]], float]:
        """Updates the discriminator, and leaves the network's gradient as a trainer does.

        A single batch is passed through the network once for both updates. Of several, the graphs would not be there
        at the same time but for their memory: each is passed through it twice.
        """
        recipe, critic, share = self.recipe, self.opponent.model, 1.0 / len(batches)
        once = len(batches) == 1
        outputs, verdicts = [], []
        for batch in batches:
            with nullcontext() if once else paddle.no_grad():
                outputs.append(recipe.output(self.network, batch))
            loss = recipe.discriminator_loss(critic, outputs[-1].detach(), batch)
            (loss * share).backward()
            verdicts.append(float(loss))
        against = self._update_opponent()

        results = []
        with frozen(critic):
            for batch, output, verdict in zip(batches, outputs, verdicts, strict=True):
                output = output if once else recipe.output(self.network, batch)
                loss, terms = recipe.generator_loss(critic, output, batch)
                (loss * share).backward()
                values = {name: float(term) for name, term in terms.items()}
                results.append({"loss": float(loss), **values, "discriminator": verdict})
        norm = self._limited(self.network, self.cfg.train.clip)
        return results, norm if against < float("inf") else against

    def _update_opponent(self) -> float:
        """The norm of its gradient; if that is not finite, which all processes see alike, nothing is updated."""
        opponent = self.opponent
        norm = self._limited(opponent.model, self.cfg.train.discriminator.clip)
        if norm < float("inf"):
            opponent.optimizer.step()
        opponent.optimizer.clear_grad()
        return norm

    def _limited(self, model: paddle.nn.Layer, limit: float) -> float:
        """Makes a gradient that of all processes, of norm ``limit`` at most; the norm before."""
        parameters = [parameter for parameter in model.parameters() if parameter.grad is not None]
        self.group.average([parameter.grad for parameter in parameters])
        return gradients.clip(parameters, limit)

    def _compare_processes(self) -> None:
        super()._compare_processes()
        value = gradients.checksum(gradients.trainable(self.opponent.model).values())
        self.group.assert_same("checksum of the discriminator's weights", value)


@contextmanager
def frozen(model: paddle.nn.Layer) -> Iterator[None]:
    """Within the block no parameter gets a gradient."""
    learning = [parameter for parameter in model.parameters() if not parameter.stop_gradient]
    for parameter in learning:
        parameter.stop_gradient = True
    try:
        yield
    finally:
        for parameter in learning:
            parameter.stop_gradient = False
