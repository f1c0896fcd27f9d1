"""Hybrid Transformer Demucs: Hybrid Demucs with a transformer across both branches instead of its innermost layers.

Rouard, Massa, Défossez: "Hybrid Transformers for Music Source Separation", ICASSP 2023; layer by layer as in
facebookresearch/demucs 4.
"""

import paddle
from paddle import nn

from models import card
from models.cross_transformer import CrossTransformer, LayerOptions
from models.demucs_blocks import Conv1d, torch_init_
from models.hdemucs_network import HybridNetwork
from models.htdemucs_config import HTDemucsConfig


class HTDemucs(HybridNetwork):
    """Waveforms of every source: ``[B, C, N] -> [B, S, C, N]``.

    With ``use_train_segment`` every input is brought to the training length by zeros behind it, except in training,
    where that length becomes the input's.

    Args:
        config: see :class:`models.htdemucs_config.HTDemucsConfig`
        name: registry name
    """

    fills_segments = True  # a chunked run at a length of its own gives this class, and no other, full segments only

    def __init__(self, config: HTDemucsConfig, name: str = "htdemucs"):
        super().__init__()
        self._build_branches(config, name)
        self.training_length = self.description.segment
        inner, outer = config.transformer_channels, config.inner_channels
        if config.bottom_channels:
            self.channel_upsampler = Conv1d(outer, inner, 1)
            self.channel_downsampler = Conv1d(inner, outer, 1)
            self.channel_upsampler_t = Conv1d(outer, inner, 1)
            self.channel_downsampler_t = Conv1d(inner, outer, 1)
        self.crosstransformer = _transformer(config) if config.t_layers else None
        torch_init_(self, config.seed)
        self._rescale()  # the branches only
        if self.crosstransformer is not None:
            self.crosstransformer.initialise_(config.seed, "crosstransformer")

    def valid_length(self, samples: int) -> int:
        """The training length, or with ``use_train_segment=False`` the given one.

        Raises:
            ValueError: more samples than the training length
        """
        if not self.config.use_train_segment:
            return samples
        if samples > self.training_length:
            raise ValueError(
                f"{samples} samples are more than the {self.training_length} that {self.description.name} was trained "
                "with: cut them into segments"
            )
        return self.training_length

    def unused_parameters(self) -> list[paddle.Tensor]:
        """Parameters that no gradient ever reaches; data parallelism wants them frozen."""
        idle = []
        if self.crosstransformer is None:
            idle += ["channel_upsampler", "channel_downsampler", "channel_upsampler_t", "channel_downsampler_t"]
        elif self.tdecoder[0].empty:  # the branch of the waveform has ended before the transformer
            idle += ["channel_downsampler_t"]
            if not any(self.crosstransformer.crosses):
                idle += ["channel_upsampler_t"]
        layers = [getattr(self, key) for key in idle if hasattr(self, key)]
        unused = [parameter for layer in layers for parameter in layer.parameters()]
        if self.crosstransformer is not None:
            unused += self.crosstransformer.unused_parameters(with_t=not self.tdecoder[0].empty)
        return unused

    def forward(self, mix: paddle.Tensor) -> paddle.Tensor:
        length = mix.shape[2]
        if self.training:
            self.training_length = length
        mix = card.pad(mix, 0, self.valid_length(length) - length)
        y = self._separate(mix)
        return y if y.shape[3] == length else card.cut(y, 3, 0, length)

    def _between(self, x: paddle.Tensor, xt: paddle.Tensor | None) -> tuple[paddle.Tensor | None, paddle.Tensor | None]:
        if self.crosstransformer is None:
            return x, xt
        if not self.config.bottom_channels:
            return self.crosstransformer(x, xt)
        rows = x.shape[2]
        x, xt = self._sample(self.channel_upsampler, x, rows), self.channel_upsampler_t(xt)
        x, xt = self.crosstransformer(x, xt)
        return self._sample(self.channel_downsampler, x, rows), self.channel_downsampler_t(xt)

    @staticmethod
    def _sample(convolution: nn.Layer, x: paddle.Tensor, rows: int) -> paddle.Tensor:
        """A convolution of one sample on ``[B, C, F, T]``."""
        y = convolution(x.flatten(2))
        return y.reshape([*y.shape[:2], rows, -1])


def _transformer(config: HTDemucsConfig) -> CrossTransformer:
    options = LayerOptions(
        dim=config.transformer_channels,
        heads=config.t_heads,
        hidden=int(config.transformer_channels * config.t_hidden_scale),
        dropout=config.t_dropout,
        gelu=config.t_gelu,
        group_norm=int(config.t_group_norm),
        norm_first=config.t_norm_first,
        norm_out=int(config.t_norm_out),
        layer_scale=config.t_layer_scale,
        mask_type=config.t_mask_type,
        mask_random_seed=config.t_mask_random_seed,
        sparse_attn_window=config.t_sparse_attn_window,
        global_window=config.t_global_window,
        sparsity=config.t_sparsity,
        auto_sparsity=config.t_auto_sparsity,
    )
    return CrossTransformer(
        options,
        config.t_layers,
        cross_first=config.t_cross_first,
        emb=config.t_emb,
        norm_in=config.t_norm_in,
        norm_in_group=int(config.t_norm_in_group),
        max_positions=config.t_max_positions,
        max_period=config.t_max_period,
        sin_random_shift=config.t_sin_random_shift,
        weight_pos_embed=config.t_weight_pos_embed,
        cape_mean_normalize=config.t_cape_mean_normalize,
        cape_augment=config.t_cape_augment,
        cape_glob_loc_scale=config.t_cape_glob_loc_scale,
        sparse_self_attn=config.t_sparse_self_attn,
        sparse_cross_attn=config.t_sparse_cross_attn,
    )
