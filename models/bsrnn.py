"""BandSplitRNN: one stem out of a mixture, by a mask for a spectrogram that is cut into bands.

Luo, Yu: "Music Source Separation with Band-Split RNN", IEEE/ACM TASLP 2023; layer by layer as in
amanteur/BandSplitRNN-Pytorch, so that its weights load by name.
"""

import paddle
from paddle import nn

from models import card
from models.bsrnn_bands import BandSplit, MaskEstimation
from models.bsrnn_config import BSRNNConfig
from models.bsrnn_sequence import BandSequence, BandTransformer
from models.demucs_layers import torch_init_
from models.spectrum import STFT, magnitude, product
from runtime.errors import UserError


class BandSplitRNN(nn.Layer):
    """One stem out of a mixture: waveforms ``[B, C, N] -> [B, 1, C, N]``.

    With ``t_timesteps`` the number of frames is fixed, as in the original. Without, any N of at least 1 will do: the
    normalisations of the bands have a factor for each feature instead of one for each feature and frame, and take
    their statistics over all frames of the input, as the fixed ones do; so a fixed network whose factors do not change
    with time is this one. Every example is normalised as a whole, too, and recurrent layers see it to both ends:
    chunks of a song, cut out, are not what they are in the whole.

    Args:
        config: see :class:`models.bsrnn_config.BSRNNConfig`
        name: registry name
    """

    def __init__(self, config: BSRNNConfig, name: str = "bsrnn_vocals"):
        super().__init__()
        self.config, self.description = config, config.describe(name)
        self.stft = STFT(config.n_fft, config.hop_length)
        bands, frames = config.widths(), config.t_timesteps
        self.bandsplit = BandSplit(bands, config.planes, config.fc_dim, frames)
        if config.bottleneck_layer == "rnn":
            kind = config.rnn_type, config.bidirectional
            self.bandsequence = BandSequence(config.fc_dim, config.rnn_dim, *kind, config.num_layers)
        else:
            self.bandsequence = BandTransformer(config.fc_dim, config.rnn_dim, config.num_layers)
        planes = config.planes, config.complex_as_channel
        self.maskest = MaskEstimation(bands, *planes, config.fc_dim, config.mlp_dim, frames)
        torch_init_(self, config.seed)
        if config.bottleneck_layer == "att":
            self.bandsequence.initialise_(config.seed, "bandsequence")

    def valid_length(self, length: int) -> int:
        """The number of samples nearest to ``length`` that the network takes as they are."""
        return length if self.config.t_timesteps is None else self.config.segment

    def unused_parameters(self) -> list[paddle.Tensor]:
        """Parameters that no gradient ever reaches; data parallelism wants them frozen."""
        pairs = getattr(self.bandsequence, "dptransformers", ())
        return [parameter for pair in pairs for layer in pair for parameter in layer.groupnorm.parameters()]

    def transform(self, x: paddle.Tensor) -> paddle.Tensor:
        """The spectrogram of waveforms, ``[B, C, N] -> [B, C, 2, F, T]``: real parts, then imaginary parts."""
        return self.stft.forward(x)

    def inverse(self, z: paddle.Tensor, length: int) -> paddle.Tensor:
        """The waveforms of a spectrogram, ``[B, C, 2, F, T] -> [B, C, length]``."""
        return self.stft.inverse(z, length)

    def spectrum(self, z: paddle.Tensor) -> paddle.Tensor:
        """The stem's spectrogram out of the mixture's, ``[B, C, 2, F, T] -> [B, C, 2, F, T]``.

        Raises:
            UserError: another number of frames than ``t_timesteps``
        """
        estimate = self._masked(z, keep_mask=False)
        if self.config.complex_as_channel:
            return estimate
        own = magnitude(z).unsqueeze(2)
        return z / own * estimate.unsqueeze(2)

    def raw(self, z: paddle.Tensor) -> paddle.Tensor:
        """What the original's forward call gives for the same spectrogram ``[B, C, 2, F, T]``.

        Pairs as :meth:`spectrum`, or magnitudes ``[B, C, F, T]`` without ``complex_as_channel``; with ``return_mask``
        the mask, times the deviation of the mixture and plus its mean.
        """
        return self._masked(z, self.config.return_mask)

    def _masked(self, z: paddle.Tensor, keep_mask: bool) -> paddle.Tensor:
        batch, channels, _, bins, frames = z.shape
        if self.config.t_timesteps not in (None, frames):
            raise UserError(
                f"{self.description.name} with t_timesteps={self.config.t_timesteps} takes segments of "
                f"{self.config.segment} samples and no others: {frames} frames came"
            )
        # a pair is a complex number, and a magnitude a real one: so many parts have a mean of their own
        parts = z if self.config.complex_as_channel else magnitude(z).unsqueeze(2)
        mean = _mean(parts)
        away = parts - mean
        count = channels * bins * frames
        variance = _mean(away.square()).sum(2, keepdim=True) * (count / (count - 1))
        deviation = paddle.sqrt(variance + 1e-20)  # the root of zero has no slope
        x = away / (deviation + 1e-5)
        mask = self.maskest(self.bandsequence(self.bandsplit(x.reshape([batch, -1, bins, frames])))).reshape(x.shape)
        if not keep_mask:
            mask = product(mask, x) if self.config.complex_as_channel else mask * x
        y = mask * deviation + mean
        return y if self.config.complex_as_channel else y.squeeze(2)

    def forward(
        self, mix: paddle.Tensor, spectrum: bool = False
    ) -> paddle.Tensor | tuple[paddle.Tensor, paddle.Tensor]:
        """The stem's waveforms; with ``spectrum`` also what they are made of, which is no waveform's spectrogram."""
        length = mix.shape[2]
        missing = self.config.n_fft // 2 + 1 - length  # less cannot be reflected
        x = card.pad(mix, 0, missing) if missing > 0 else mix
        z = self.spectrum(self.transform(x))
        y = self.inverse(z, x.shape[2])
        wave = (card.cut(y, 2, 0, length) if missing > 0 else y).unsqueeze(1)
        return (wave, z) if spectrum else wave


def _mean(x: paddle.Tensor) -> paddle.Tensor:
    """Over channels, bins and frames of ``[B, C, P, F, T]``, one axis after the other: so float32 loses nothing."""
    return x.mean(4, keepdim=True).mean(3, keepdim=True).mean(1, keepdim=True)
