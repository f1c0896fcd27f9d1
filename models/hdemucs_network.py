"""What Hybrid Demucs and Hybrid Transformer Demucs share: two branches, how they meet, and what comes out."""

from collections.abc import Iterator
from typing import Any, ClassVar, Literal

import paddle
from paddle import nn

from models.demucs_blocks import rescale_module
from models.hdemucs_blocks import DecoderLayer, EncoderLayer, LayerShape, MultiWrap, ScaledEmbedding
from models.hdemucs_spectrum import Spectrogram, standardise, wiener, with_phase_of
from models.spectrum import magnitude


class HybridNetwork(nn.Layer):
    """A U-Net over the spectrogram, one over the waveform, and the sum of what they say of each source.

    The waveform's branch ends where both have the same rate and one frequency is left: its last layer is added into
    the spectrogram's, and in the decoder it begins there again.

    Subclasses say what happens between encoder and decoder.
    """

    # encoder and decoder of the spectrogram, then of the waveform
    LISTS: ClassVar[tuple[str, ...]] = ("encoder", "decoder", "tencoder", "tdecoder")
    # where torchaudio's class differs from the original: zeros for short inputs, margins, a window of 2048 samples
    TORCHAUDIO: ClassVar[bool] = False

    def _build_branches(self, config: Any, name: str) -> None:
        self.config, self.description = config, config.describe(name)
        short: Literal["right", "both"] = "right" if self.TORCHAUDIO else "both"
        self.spectrogram = Spectrogram(config.nfft, config.hybrid, config.hybrid_old, short)
        levels = list(self._levels())
        encoder, decoder, tencoder, tdecoder = (
            [layer for layer in layers if layer is not None] for layers in zip(*levels, strict=True)
        )
        for key, layers in zip(self.LISTS, (encoder, decoder[::-1], tencoder, tdecoder[::-1]), strict=True):
            if layers or config.hybrid:
                self.add_sublayer(key, nn.LayerList(layers))
        self.freq_emb = None
        if config.freq_emb:
            rows = config.frequencies(config.depth + 1)[1]
            self.freq_emb = ScaledEmbedding(rows, config.channels, config.emb_scale, config.emb_smooth)

    def _levels(self) -> Iterator[tuple[nn.Layer | None, ...]]:
        """Encoder and decoder layer of the spectrogram, then of the waveform, from the outermost on."""
        config = self.config
        inputs_t = config.audio_channels
        inputs = inputs_t * (2 if config.cac else 1)
        outputs, outputs_t = config.channels, config.channels_time or config.channels
        for number, rows in enumerate(config.frequencies()):
            shape, shape_t = self._shapes(number, rows)
            merges = shape.freq and not shape.pad
            if merges:
                outputs = outputs_t = max(outputs, outputs_t)
            timed = config.hybrid and shape.freq
            before = {"dconv": bool(config.dconv_mode & 1), "context": config.context_enc}
            after = {"dconv": bool(config.dconv_mode & 2), "context": config.context, "last": number == 0}
            banded = number < config.multi_freqs_depth and config.multi_freqs
            encoder = self._layer(EncoderLayer, banded, inputs=inputs, outputs=outputs, shape=shape, **before)
            tencoder = (
                EncoderLayer(inputs_t, outputs_t, shape_t, empty=merges, idle_norm=self.TORCHAUDIO, **before)
                if timed
                else None
            )
            if number == 0:
                inputs_t = config.audio_channels * len(config.sources)
                inputs = inputs_t * (2 if config.cac else 1)
            across = {"context_freq": not banded}
            decoder = self._layer(DecoderLayer, banded, inputs=outputs, outputs=inputs, shape=shape, **after, **across)
            tdecoder = DecoderLayer(outputs_t, inputs_t, shape_t, empty=merges, **after) if timed else None
            yield encoder, decoder, tencoder, tdecoder
            inputs, inputs_t = outputs, outputs_t
            outputs, outputs_t = int(config.growth * outputs), int(config.growth * outputs_t)

    def _layer(self, kind: type, banded: Any, **arguments: Any) -> nn.Layer:
        if banded:
            return MultiWrap(kind, arguments, self.config.multi_freqs)
        return kind(**arguments)

    def _shapes(self, number: int, rows: int) -> tuple[LayerShape, LayerShape]:
        """Shapes of a layer for ``rows`` frequencies, and of its counterpart in the branch of the waveform."""
        config = self.config
        common = {
            "norm": number >= config.norm_starts,
            "norm_groups": config.norm_groups,
            "rewrite": config.rewrite,
            "dconv": {
                "lstm": number >= config.dconv_lstm,
                "attn": number >= config.dconv_attn,
                "depth": config.dconv_depth,
                "compress": config.dconv_comp,
                "init": config.dconv_init,
            },
        }
        merges = 1 < rows <= config.kernel_size
        kernel, stride = (
            (config.kernel_size, config.stride) if rows > 1 else (2 * config.time_stride, config.time_stride)
        )
        kernel = rows if merges else kernel
        margin = 0 if merges else self._margin(kernel, stride)
        shape = LayerShape(kernel, stride, freq=rows > 1, pad=not merges, margin=margin, **common)
        kernel, stride = config.kernel_size, config.stride
        if self.TORCHAUDIO and merges and config.nfft == 2048:
            kernel, stride = 4, 2
        margin = self._margin(kernel, stride)
        return shape, LayerShape(kernel, stride, freq=False, pad=True, margin=margin, **common)

    def _margin(self, kernel: int, stride: int) -> int:
        return (kernel - stride) // 2 if self.TORCHAUDIO else kernel // 4

    def _rescale(self) -> None:
        """Draws the deviations of the branches' first weights closer to the option ``rescale``."""
        if self.config.rescale:
            for key in self.LISTS:
                if hasattr(self, key):
                    rescale_module(getattr(self, key), self.config.rescale)

    # ------------------------------------------------------------------------------------------------------ a pass

    def _between(self, x: paddle.Tensor, xt: paddle.Tensor | None) -> tuple[paddle.Tensor | None, paddle.Tensor | None]:
        """What the decoders begin with; nothing: all comes through the skips."""
        return None, None

    def _separate(self, mix: paddle.Tensor) -> paddle.Tensor:
        """Sources ``[B, S, C, N]`` of a mixture ``[B, C, N]``."""
        config, length = self.config, mix.shape[2]
        z = self.spectrogram.forward(mix)  # [B, C, 2, F, T]
        x, mean, deviation = standardise(z.flatten(1, 2) if config.cac else magnitude(z))
        xt = mean_t = deviation_t = None
        if config.hybrid:
            xt, mean_t, deviation_t = standardise(mix)
        rows, frames = x.shape[2:]
        x, xt = self._run(x, xt)
        x = x.reshape([z.shape[0], len(config.sources), -1, rows, frames])
        y = self.spectrogram.inverse(self._spectra(z, x * deviation.unsqueeze(1) + mean.unsqueeze(1)), length)
        if not config.hybrid:
            return y
        xt = xt.reshape([z.shape[0], len(config.sources), -1, length])
        return y + (xt * deviation_t.unsqueeze(1) + mean_t.unsqueeze(1))

    def _run(self, x: paddle.Tensor, xt: paddle.Tensor | None) -> tuple[paddle.Tensor, paddle.Tensor | None]:
        """Both U-Nets: ``[B, K, F, T]`` and ``[B, C, N]`` to ``[B, S·K, F, T]`` and ``[B, S·C, N]``."""
        encoder, decoder, tencoder, tdecoder = (getattr(self, key, ()) for key in self.LISTS)
        skips, skips_t, lengths, lengths_t = [], [], [], []
        for number, encode in enumerate(encoder):
            lengths.append(x.shape[-1])
            inject = None
            if number < len(tencoder):
                lengths_t.append(xt.shape[-1])
                xt = tencoder[number](xt)
                if tencoder[number].empty:
                    inject = xt
                else:
                    skips_t.append(xt)
            x = encode(x, inject)
            if number == 0 and self.freq_emb is not None:
                x = x + self.freq_emb(x.shape[2], self.config.freq_emb)
            skips.append(x)
        x, xt = self._between(x, xt)
        for number, decode in enumerate(decoder):
            x, before = decode(x, skips.pop(), lengths.pop())
            timed = number - (len(decoder) - len(tdecoder))
            if timed >= 0:
                decode_t = tdecoder[timed]
                xt, skip = (before.squeeze(2), None) if decode_t.empty else (xt, skips_t.pop())
                xt, _ = decode_t(xt, skip, lengths_t.pop())
        return x, xt

    def _spectra(self, z: paddle.Tensor, x: paddle.Tensor) -> paddle.Tensor:
        """Spectrograms of the sources ``[B, S, C, 2, F, T]`` out of the mixture's and the network's."""
        if self.config.cac:
            return x.reshape([*x.shape[:2], -1, 2, *x.shape[3:]])
        iterations = self.config.end_iters if self.training else self.config.wiener_iters
        if iterations < 0:
            return with_phase_of(z, x, softly=True)
        return wiener(z, x, iterations, self.config.wiener_residual)
