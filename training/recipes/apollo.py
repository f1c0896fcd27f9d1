"""Apollo's recipe: magnitudes at seven resolutions and a discriminator, AdamW for both, and the SDR of whole songs."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import paddle

import models
from data.codec_pairs import CodecPair
from data.codec_segments import CodecFiles
from models.apollo_config import DiscriminatorConfig
from models.apollo_discriminator import MultiFrequencyDiscriminator
from pretrained import load_reference_state
from pretrained.apollo import discriminator_state
from runtime.errors import UserError
from training import apollo_losses as losses
from training.optimizers import adamw
from training.prepare import plain
from training.recipes import Batch
from training.state import Opponent


class ApolloRecipe:
    """Training of Apollo with the keys of ``configs/apollo/base.yaml``.

    Args:
        cfg: the whole configuration

    Raises:
        UserError: impossible options
    """

    scores = ("loss", *losses.SDR_KINDS)

    def __init__(self, cfg: Any):
        self.cfg = cfg
        description = models.describe(cfg.network, **plain(cfg.model))
        self.sample_rate = description.sample_rate
        if cfg.train.metric not in losses.SDR_KINDS:
            raise UserError(f"train.metric={cfg.train.metric}: choose {', '.join(losses.SDR_KINDS)}")
        if cfg.train.amp:
            raise UserError("train.amp: Apollo is trained in float32, because its discriminator sees small differences")
        if 2 * round(cfg.data.segment * self.sample_rate) <= max(losses.WINDOWS):
            raise UserError(f"data.segment={cfg.data.segment}: it must be over half of {max(losses.WINDOWS)} samples")
        config = description.config
        self.notes = (
            f"network: {cfg.network}, {config['feature_dim']} features × {config['layer']} layers, frames of "
            f"{config['win']:g} ms at {self.sample_rate} Hz",
            f"judged by: {cfg.train.metric} of whole songs; the loss is minus that, dB",
        )

    def build_model(self) -> paddle.nn.Layer:
        """The generator."""
        return models.create(self.cfg.network, **plain(self.cfg.model))

    def optimizer(self, model: paddle.nn.Layer) -> paddle.optimizer.Optimizer:
        """AdamW of the generator."""
        return adamw(self.cfg.train, model)

    def opponent(self, source: Path | None = None) -> Opponent:
        """The discriminator, with the weights in ``source`` if it has some, and its AdamW."""
        options = plain(self.cfg.discriminator)
        discriminator = MultiFrequencyDiscriminator(DiscriminatorConfig(**options, nch=self.cfg.model.channels))
        optimizer = adamw(self.cfg.train.discriminator, discriminator)
        weights = None if source is None else discriminator_state(source)
        if not weights:
            return Opponent(discriminator, optimizer)
        try:
            load_reference_state(discriminator, weights)
        except UserError as failure:
            raise UserError(f"the discriminator in {source} cannot be taken: {failure}") from failure
        return Opponent(discriminator, optimizer, f"from {source}")

    def output(self, model: paddle.nn.Layer, batch: Batch) -> paddle.Tensor:
        """What the generator makes of ``codec [B, C, N]``, of the same shape."""
        return model(paddle.to_tensor(batch["codec"])).squeeze(1)

    def discriminator_loss(self, discriminator: paddle.nn.Layer, output: paddle.Tensor, batch: Batch) -> paddle.Tensor:
        """How far its verdicts on ``output`` are from 0, and those on ``original [B, C, N]`` from 1."""
        fake, _ = discriminator(output)  # first, as in the original: each pass brings the singular vectors nearer
        real, _ = discriminator(paddle.to_tensor(batch["original"]))
        return losses.discriminator_loss(real, fake)

    def generator_loss(
        self, discriminator: paddle.nn.Layer, output: paddle.Tensor, batch: Batch
    ) -> tuple[paddle.Tensor, dict[str, paddle.Tensor]]:
        """Distance of magnitudes, of verdicts from 1, of the discriminator's maps, and of what is added: sum, terms."""
        original = paddle.to_tensor(batch["original"])
        verdicts, fake = discriminator(output)
        with paddle.no_grad():
            _, real = discriminator(original)
        loss, terms = losses.generator_loss(verdicts, fake, real, output, original, self.cfg.train.feature_epsilon)
        for name, distance in (("waveform", losses.waveform_error), ("levels", losses.level_error)):
            if weight := self.cfg.train[name]:
                terms[name] = distance(output, original)
                loss = loss + weight * terms[name]
        return loss, terms

    def validate(self, model: paddle.nn.Layer, batch: Batch) -> dict[str, np.ndarray]:
        """The :attr:`scores` of every example, dB, float64 ``[B]``."""
        pairs = zip(batch["codec"], batch["original"], strict=True)
        rows = [self.measure(self.restored(model, codec), original) for codec, original in pairs]
        return {name: np.array([row[name] for row in rows], np.float64) for name in self.scores}

    @paddle.no_grad()
    def restored(self, model: paddle.nn.Layer, codec: np.ndarray) -> np.ndarray:
        """What the generator makes of a song ``[C, N]``."""
        return self.output(model, {"codec": codec[None]})[0].numpy()

    @paddle.no_grad()
    def measure(self, restored: np.ndarray, original: np.ndarray) -> dict[str, float]:
        """The :attr:`scores` of a song ``[C, N]``, dB; what counts is the loss, minus one of them."""
        one, other = (paddle.to_tensor(x[None]) for x in (restored, original))
        ratios = {kind: -float(losses.negative_sdr(one, other, kind)) for kind in losses.SDR_KINDS}
        return {"loss": -ratios[self.cfg.train.metric], **ratios}

    def listen(self, model: paddle.nn.Layer, index: Any, song: CodecPair) -> dict[str, np.ndarray]:
        """The middle of a pair, and what the generator makes of the codec's half, ``[C, N]`` each."""
        pair = CodecFiles([song], self.cfg.model.channels, self.sample_rate)[0]
        count = min(round(self.cfg.train.audio_seconds * self.sample_rate), song.samples)
        begin = (song.samples - count) // 2
        codec, original = (x[:, begin : begin + count] for x in (pair.codec, pair.original))
        return {"original": original, "codec": codec, "restored": self.restored(model, codec)}
