"""The recipe of the Demucs family: distances of waveforms, their penalties, and the scores of whole songs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import numpy as np
import paddle

import models
from dsp.chunks import ArraySong, Chunking, separated
from metrics.sdr import nsdr
from training import quantise
from training.demucs_options import check
from training.gradients import trainable
from training.recipes import Batch
from training.svd import SVDPenalty
from training.xp_network import exported

TRANSFORMER = "crosstransformer."  # begins the names of the parameters that have their own learning rate and decay
_LOGITS_RATE = 1e-3  # learning rate of DiffQ's numbers of bits


class DemucsRecipe:
    """Training of the Demucs family with the keys of ``configs/demucs/config.yaml``.

    Args:
        cfg: the whole configuration of an experiment

    Raises:
        UserError: values that no training can work with

    Attributes:
        model: the network, once it is built
        quantiser: gives its weights fewer bits, or None
        svd: the penalty on singular values
    """

    def __init__(self, cfg: Any):
        check(cfg)
        self.cfg, self.sources = cfg, list(cfg.dset.sources)
        self.weights = np.array(cfg.weights, np.float32)
        self.sample_rate = int(cfg.dset.samplerate)
        self.svd = SVDPenalty(**cfg.svd)
        self.model: paddle.nn.Layer | None = None
        self.quantiser: quantise.Quantiser | None = None

    @property
    def scores(self) -> tuple[str, ...]:
        """What :meth:`measure` gives."""
        size = ("ms",) if self.quantiser else ()
        return (
            "loss",
            "reco",
            "nsdr",
            *size,
            *(f"{kind}_{name}" for kind in ("reco", "nsdr") for name in self.sources),
        )

    def build_model(self) -> paddle.nn.Layer:
        """The network; what no gradient reaches is frozen, as data parallelism wants it."""
        self.model = self.create_network()
        if hasattr(self.model, "unused_parameters"):
            for parameter in self.model.unused_parameters():
                parameter.stop_gradient = True
        self.quantiser = quantise.create(self.cfg.quant, self.model)
        return self.model

    def create_network(self) -> paddle.nn.Layer:
        """The network with its initial weights; a hybrid transformer is judged on inputs as long as in training."""
        name, options = exported(self.cfg)
        return models.create(name, **options, seed=int(self.cfg.seed))

    # ---------------------------------------------------------------------------------------------- the optimiser

    def optimizer(self, model: paddle.nn.Layer) -> paddle.optimizer.Optimizer:
        """Adam or AdamW. The transformer has its own learning rate and weight decay, and so have DiffQ's bits.

        As in PyTorch Adam's decay is added to the gradient, AdamW's is not.
        """
        optim = self.cfg.optim
        kinds = {"adam": paddle.optimizer.Adam, "adamw": paddle.optimizer.AdamW}
        return kinds[optim.optim](
            learning_rate=float(optim.lr),
            beta1=float(optim.momentum),
            beta2=float(optim.beta2),
            parameters=self.parameter_groups(model),
            weight_decay=float(optim.weight_decay),
        )

    def parameter_groups(self, model: paddle.nn.Layer) -> list[dict[str, Any]]:
        """What Paddle's optimisers take: ``learning_rate`` of a group is a multiple of the optimiser's."""
        optim, own = self.cfg.optim, self.cfg[self.cfg.model]
        rate = float(optim.lr)
        logits = {id(one) for one in getattr(self.quantiser, "logits", ())}
        kinds: dict[str, list[paddle.Tensor]] = {"rest": [], "transformer": [], "bits": []}
        for name, parameter in trainable(model).items():
            kind = "transformer" if name.startswith(TRANSFORMER) else "rest"
            kinds["bits" if id(parameter) in logits else kind].append(parameter)
        rates = {"rest": rate, "transformer": float(own.get("t_lr") or rate), "bits": _LOGITS_RATE}
        decays = {"rest": optim.weight_decay, "transformer": own.get("t_weight_decay") or 0.0, "bits": 0.0}
        return [
            {"params": parameters, "learning_rate": rates[kind] / rate, "weight_decay": float(decays[kind])}
            for kind, parameters in kinds.items()
            if parameters
        ]

    # ---------------------------------------------------------------------------------------------------- training

    def loss(self, model: paddle.nn.Layer, batch: Batch) -> tuple[paddle.Tensor, dict[str, paddle.Tensor]]:
        """Weighted mean distance of the sources, plus the penalties.

        Args:
            model: the network, perhaps wrapped
            batch: ``stems [B, S, C, N]``, and ``place``, the epoch and the batch's number in it

        Returns:
            The loss, and of its parts ``reco`` (the distance, with a root if it is a square), ``ms`` (MB),
            ``penalty`` and the distance of each source; scalars.
        """
        stems = paddle.to_tensor(batch["stems"])
        with self.quantiser.disturbed() if self.quantiser else nullcontext():
            estimates = model(stems.sum(axis=1))  # [B, S, C, N]
        per_source, distances = source_losses(estimates, stems, self.cfg.optim.loss)
        shares = paddle.to_tensor(self.weights / self.weights.sum())
        loss, terms = (per_source * shares).sum(), {"reco": (distances * shares).sum()}
        if self.quantiser:
            terms["ms"] = self.quantiser.size()
            if self.cfg.quant.diffq:
                loss = loss + terms["ms"] * float(self.cfg.quant.diffq)
        if self.svd.penalty:
            due = self.svd.is_due(int(self.cfg.seed), *batch["place"])
            terms["penalty"] = self.svd.estimate(self.model) if due else paddle.zeros([])
            loss = loss + terms["penalty"] * float(self.svd.penalty)
        return loss, terms | {f"reco_{name}": distances[k] for k, name in enumerate(self.sources)}

    # --------------------------------------------------------------------------------------------------- validation

    def judged(self) -> AbstractContextManager[None]:
        """Within the block the network has the weights that it would be published with."""
        return self.quantiser.rounded() if self.quantiser else nullcontext()

    def separate(
        self, model: paddle.nn.Layer, mixture: np.ndarray, overlap: float, split: bool, delays: Sequence[int] = (0,)
    ) -> np.ndarray:
        """Estimates ``[S, C, N]`` of a normalised mixture ``[C, N]`` as the released program makes them.

        Args:
            model: the network, in evaluation mode
            overlap: share of a chunk that overlaps the next
            split: in chunks of the network's segment, or the song at once
            delays: samples, of the passes that are averaged
        """

        def run(chunks: np.ndarray) -> np.ndarray:
            return model(paddle.to_tensor(chunks)).numpy()

        how = Chunking(model.description.segment if split else None, model.valid_length, overlap)
        with paddle.no_grad():
            blocks = list(separated(ArraySong(mixture[None]), run, how, delays))
        return np.concatenate(blocks, axis=-1)[0]

    def measure(self, model: paddle.nn.Layer, mixture: np.ndarray, stems: np.ndarray) -> Mapping[str, float]:
        """The :attr:`scores` of a song, ``mixture [C, N]`` and ``stems [S, C, N]``, both normalised or both not."""
        if self.cfg.valid_apply:
            estimates = self.separate(model, mixture, overlap=0.0, split=bool(self.cfg.test.split))
        else:
            with paddle.no_grad():
                estimates = model(paddle.to_tensor(mixture[None]))[0].numpy()
        error = (estimates - stems).astype(np.float64)
        squares = self.cfg.optim.loss == "mse"
        losses = (error**2 if squares else np.abs(error)).mean(axis=(1, 2))  # [S]
        distances = losses**0.5 if squares else losses
        ratios = nsdr(stems, estimates)
        kinds = {"loss": losses, "reco": distances, "nsdr": ratios}
        result = {kind: float(np.average(values, weights=self.weights)) for kind, values in kinds.items()}
        if self.quantiser:
            result["ms"] = float(self.quantiser.size())
            result["loss"] += float(self.cfg.quant.diffq or 0.0) * result["ms"]
        for kind, values in (("reco", distances), ("nsdr", ratios)):
            result |= {f"{kind}_{name}": float(value) for name, value in zip(self.sources, values, strict=True)}
        return result


def source_losses(estimates: paddle.Tensor, stems: paddle.Tensor, kind: str) -> tuple[paddle.Tensor, paddle.Tensor]:
    """Mean absolute or squared difference of each source, ``[B, S, C, N] -> [S]``; and as a distance.

    The distance of the squares is the root of each example's mean, averaged over the batch. One axis at a time: over
    millions of values at once float32 loses digits.
    """
    difference = estimates - stems
    each = (difference.abs() if kind == "l1" else difference * difference).mean(axis=-1).mean(axis=-1)  # [B, S]
    return each.mean(axis=0), (each if kind == "l1" else each.sqrt()).mean(axis=0)
