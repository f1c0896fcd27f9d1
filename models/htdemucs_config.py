"""Options of Hybrid Transformer Demucs and its published variants. Does not import paddle."""

import math
from dataclasses import dataclass
from typing import Any, ClassVar

from models.demucs_config import STEMS, Segment, check_flags, check_real, check_whole
from models.description import Description
from models.hdemucs_config import HDemucsConfig, HybridConfig
from runtime.errors import UserError

EMBEDDINGS = ("sin", "cape", "scaled")
MASKS = ("diag", "jmask", "random", "global")


@dataclass(frozen=True)
class HTDemucsConfig(HybridConfig):
    """Arguments of :class:`models.htdemucs.HTDemucs`, checked; names and defaults of the original.

    Options that are not listed are those of :class:`models.hdemucs_config.HDemucsConfig`.

    Attributes:
        bottom_channels: channels of the transformer; 0: those of the last layer
        t_layers: of the transformer in each branch; 0: none
        t_emb: positions, ``sin``, ``cape`` or ``scaled``
        t_hidden_scale: channels between the two linear layers of a layer, as a multiple
        t_heads, t_dropout: of the transformer
        t_max_positions, t_max_period, t_weight_pos_embed, t_sin_random_shift: see
            :class:`models.cross_transformer.CrossTransformer`
        t_norm_in, t_norm_in_group, t_group_norm, t_norm_first, t_norm_out: norms; true means one group
        t_weight_decay, t_lr: of the transformer's own group of parameters in training
        t_layer_scale, t_gelu: learned factors of what a step adds; GELU or else ReLU
        t_cape_mean_normalize, t_cape_augment, t_cape_glob_loc_scale: with ``cape``
        t_sparse_self_attn, t_sparse_cross_attn, t_mask_type, t_mask_random_seed, t_sparse_attn_window,
            t_global_window, t_sparsity, t_auto_sparsity: see :class:`models.cross_transformer.LayerOptions`
        t_cross_first: begin with a layer in which the branches look at each other
        use_train_segment: bring every input to the length of ``segment`` except in training
    """

    # options that change what weights of the same shape mean
    meaning: ClassVar[tuple[str, ...]] = (
        *(key for key in HDemucsConfig.meaning if key != "hybrid_old"),
        "segment",
        "use_train_segment",
        "t_emb",
        "t_heads",
        "t_max_period",
        "t_norm_in",
        "t_norm_in_group",
        "t_group_norm",
        "t_norm_first",
        "t_gelu",
        "t_weight_pos_embed",
        "t_mask_type",
        "t_sparse_attn_window",
        "t_global_window",
    )
    hybrid: ClassVar[bool] = True
    hybrid_old: ClassVar[bool] = False
    # the residual branches have neither
    dconv_attn: ClassVar[float] = math.inf
    dconv_lstm: ClassVar[float] = math.inf

    sources: tuple[str, ...] = STEMS
    audio_channels: int = 2
    channels: int = 48
    channels_time: int | None = None
    growth: int = 2
    nfft: int = 4096
    wiener_iters: int = 0
    end_iters: int = 0
    wiener_residual: bool = False
    cac: bool = True
    depth: int = 4
    rewrite: bool = True
    multi_freqs: tuple[float, ...] | None = None
    multi_freqs_depth: int = 3
    freq_emb: float = 0.2
    emb_scale: float = 10
    emb_smooth: bool = True
    kernel_size: int = 8
    time_stride: int = 2
    stride: int = 4
    context: int = 1
    context_enc: int = 0
    norm_starts: int = 4
    norm_groups: int = 4
    dconv_mode: int = 1
    dconv_depth: int = 2
    dconv_comp: float = 8
    dconv_init: float = 1e-3
    bottom_channels: int = 0
    t_layers: int = 5
    t_emb: str = "sin"
    t_hidden_scale: float = 4.0
    t_heads: int = 8
    t_dropout: float = 0.0
    t_max_positions: int = 10000
    t_norm_in: bool = True
    t_norm_in_group: int | bool = False
    t_group_norm: int | bool = False
    t_norm_first: bool = True
    t_norm_out: int | bool = True
    t_max_period: float = 10000.0
    t_weight_decay: float = 0.0
    t_lr: float | None = None
    t_layer_scale: bool = True
    t_gelu: bool = True
    t_weight_pos_embed: float = 1.0
    t_sin_random_shift: int = 0
    t_cape_mean_normalize: bool = True
    t_cape_augment: bool = True
    t_cape_glob_loc_scale: tuple[float, float, float] = (5000.0, 1.0, 1.4)
    t_sparse_self_attn: bool = False
    t_sparse_cross_attn: bool = False
    t_mask_type: str = "diag"
    t_mask_random_seed: int = 42
    t_sparse_attn_window: int = 500
    t_global_window: int = 100
    t_sparsity: float = 0.95
    t_auto_sparsity: bool = False
    t_cross_first: bool = False
    rescale: float = 0.1
    samplerate: int = 44100
    segment: Segment = 10
    use_train_segment: bool = True
    seed: int = 42

    def __post_init__(self) -> None:
        self._check()
        self._check_bands()
        self._check_outputs()
        self._check_transformer()
        if self.t_layers and self.frequencies()[-1] == 1:
            raise UserError(f"depth={self.depth} leaves the transformer no frequencies with nfft={self.nfft}")

    def _check_transformer(self) -> None:
        check_whole(self, 1, "growth", "t_heads", "t_max_positions")
        check_whole(self, 0, "bottom_channels", "t_layers", "t_sin_random_shift", "t_mask_random_seed")
        check_whole(self, 0, "t_sparse_attn_window", "t_global_window")
        check_real(self, lambda value: 0 < value < math.inf, "above 0", "t_hidden_scale", "t_max_period")
        check_real(self, lambda value: 0 <= value < 1, "at least 0 and below 1", "t_dropout", "t_sparsity")
        check_real(self, lambda value: 0 <= value < math.inf, "at least 0", "t_weight_decay")
        check_real(self, math.isfinite, "finite", "t_weight_pos_embed")
        check_flags(self, "t_norm_in", "t_norm_first", "t_layer_scale", "t_gelu", "t_cross_first", "use_train_segment")
        check_flags(self, "t_cape_mean_normalize", "t_cape_augment", "t_sparse_self_attn", "t_sparse_cross_attn")
        check_flags(self, "t_auto_sparsity")
        if self.t_emb not in EMBEDDINGS:
            raise UserError(f"t_emb={self.t_emb!r} is not one of {', '.join(EMBEDDINGS)}")
        if not isinstance(self.t_mask_type, str) or not set(self.t_mask_type.split("_")) <= set(MASKS):
            raise UserError(f"t_mask_type={self.t_mask_type!r} must be made of {', '.join(MASKS)}, joined by _")
        if self.t_lr is not None:
            check_real(self, lambda value: 0 <= value < math.inf, "at least 0", "t_lr")
        disorder = self.t_cape_glob_loc_scale
        if not isinstance(disorder, list | tuple) or len(disorder) != 3:
            raise UserError(f"t_cape_glob_loc_scale={disorder!r} must be three numbers")
        object.__setattr__(self, "t_cape_glob_loc_scale", tuple(disorder))
        dim = self.transformer_channels
        if self.t_layers and (dim % self.t_heads or dim % 4):
            raise UserError(f"the transformer's {dim} channels must be a multiple of 4 and of t_heads={self.t_heads}")
        for key in ("t_norm_in_group", "t_group_norm", "t_norm_out"):
            groups = getattr(self, key)
            if not isinstance(groups, int) or groups < 0 or (groups and dim % groups):
                raise UserError(f"{key}={groups!r} must be true, false, or a number of groups for {dim} channels")

    @property
    def transformer_channels(self) -> int:
        """Channels of a token."""
        return self.bottom_channels or self.inner_channels

    @property
    def inner_channels(self) -> int:
        """Channels of the encoders' results."""
        return self.channels * self.growth ** (self.depth - 1)

    def describe(self, name: str = "htdemucs") -> Description:
        """The network's description under a registry name."""
        return self._description(name, fixed_length=self.use_train_segment)


def _variants() -> dict[str, dict[str, Any]]:
    released = {"dconv_mode": 3, "t_dropout": 0.02, "segment": "39/5"}
    return {
        "htdemucs": {**released, "bottom_channels": 512},
        "htdemucs_6s": {**released, "sources": (*STEMS, "guitar", "piano")},
    }


HTDEMUCS: dict[str, dict[str, Any]] = _variants()
