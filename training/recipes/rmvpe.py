"""RMVPE's recipe: cross-entropy of every pitch of every frame, Adam, and the melody metrics of whole songs."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import paddle
import paddle.nn.functional as F

import models
from training.optimizers import adam
from training.prepare import plain
from training.recipes import Batch

if TYPE_CHECKING:
    from data.index import Index, Song

METRICS = ("rpa", "rca", "oa", "vr", "vfa")


def cross_entropy(logits: paddle.Tensor, target: paddle.Tensor) -> paddle.Tensor:
    """−(y log p + (1 − y) log(1 − p)) of p = sigmoid(logits), element by element, any shape.

    What PyTorch's ``binary_cross_entropy`` makes of p, without its limit of 100 where p has become 0 or 1, and with a
    gradient there.
    """
    return F.softplus(logits) - logits * target  # Paddle's own has a wrong gradient at 0


class RMVPERecipe:
    """Training of RMVPE with the keys of ``configs/rmvpe/base.yaml``.

    Args:
        cfg: the whole configuration
    """

    scores = ("loss", *METRICS)

    def __init__(self, cfg: Any):
        self.cfg = cfg
        config = models.describe(cfg.network, **plain(cfg.model)).config
        self.sample_rate, self.hop = int(config["sample_rate"]), int(config["hop_length"])
        milliseconds = 1000 * self.hop / self.sample_rate
        self.notes = (f"network: {cfg.network}, a frame each {milliseconds:g} ms (hop {self.hop})",)

    def build_model(self) -> paddle.nn.Layer:
        """The network; what no gradient reaches is frozen, as data parallelism wants it."""
        model = models.create(self.cfg.network, **plain(self.cfg.model))
        for parameter in model.unused_parameters():
            parameter.stop_gradient = True
        return model

    def optimizer(self, model: paddle.nn.Layer) -> paddle.optimizer.Optimizer:
        """Adam."""
        return adam(self.cfg.train, model)

    def loss(self, model: paddle.nn.Layer, batch: Batch) -> tuple[paddle.Tensor, dict[str, paddle.Tensor]]:
        """Mean cross-entropy of ``mel [B, mel bands, T]`` and ``target [B, T, 360]``; it has no terms."""
        logits = model(paddle.to_tensor(batch["mel"]), logits=True)
        return cross_entropy(logits, paddle.to_tensor(batch["target"])).mean(), {}

    def validate(self, model: paddle.nn.Layer, batch: Batch) -> dict[str, np.ndarray]:
        """The :attr:`scores` of every example, float64 ``[B]``; ``f0 [B, T]`` is in Hz, 0 where nothing is sung.

        The melody metrics are those of the pitch that the salience is decoded to by local average, with the
        configuration's threshold.
        """
        from dsp.salience import to_f0
        from metrics.pitch import pitch_scores

        with paddle.no_grad():
            logits = model(paddle.to_tensor(batch["mel"]), logits=True)
            each = cross_entropy(logits, paddle.to_tensor(batch["target"])).mean(axis=[1, 2])
            salience = F.sigmoid(logits).numpy()
        rows = []
        for wanted, frames in zip(batch["f0"], salience, strict=True):
            times = np.arange(len(wanted)) * (self.hop / self.sample_rate)
            rows.append(pitch_scores(times, wanted, times, to_f0(frames, self.cfg.train.threshold)).as_array())
        return {
            "loss": each.numpy().astype(np.float64),
            **dict(zip(METRICS, np.array(rows, np.float64).T, strict=True)),
        }

    def listen(self, model: paddle.nn.Layer, index: Index, song: Song) -> dict[str, np.ndarray]:
        """Nothing: a pitch is no sound."""
        return {}
