"""RMVPE: how much each pitch is sung, frame by frame, from the mel spectrogram of a mixture.

Wei, Cao, Dan, Chen: "RMVPE: A Robust Model for Vocal Pitch Estimation in Polyphonic Music", Interspeech 2023; layer by
layer as in Dream-High/RMVPE (the paper: 256 mel bands) and yxlllc/RMVPE (128), so that their weights load by name.
"""

import paddle
import paddle.nn.functional as F
from paddle import nn

from models import card
from models.demucs_layers import Conv2d, torch_init_
from models.recurrent import GRU
from models.rmvpe_blocks import DeepUnet
from models.rmvpe_config import HIDDEN, PITCHES, RMVPEConfig

_PLANES = 3  # pictures that the U-Net's result is reduced to


class BiGRU(nn.Layer):
    """``[B, T, features] -> [B, T, 2·hidden]``, the states of both directions."""

    def __init__(self, inputs: int, hidden: int, layers: int):
        super().__init__()
        self.gru = GRU(inputs, hidden, layers, direction="bidirect")
        self.gru._sub_layers.clear()  # Paddle's cells hold the same parameters under second names

    def forward(self, x: paddle.Tensor) -> paddle.Tensor:
        return self.gru(x)[0]


class RMVPE(nn.Layer):
    """How much each of 360 pitches is sung: log-mel spectrograms ``[B, mel bands, T] -> [B, T, 360]`` in (0, 1).

    The original's E2E0, and with ``timbre_filter="used"`` its E2E. Any T of at least 1 will do: the spectrogram is
    mirrored at its end up to a multiple of ``config.step``, 32 in the published sizes, as the original's inference
    does. Spectrograms come from :class:`dsp.mel.LogMel`, pitches go to :func:`dsp.salience.to_f0`.

    Args:
        config: see :class:`models.rmvpe_config.RMVPEConfig`
        name: registry name
    """

    # tensors that compute nothing: weights may lack them, or have them where the network does not. The originals of
    # the paper keep the matrices of their front end among the weights
    idle = ("unet.tf.", "mel.")

    def __init__(self, config: RMVPEConfig, name: str = "rmvpe"):
        super().__init__()
        self.config, self.description = config, config.describe(name)
        if config.timbre_filter == "used":
            self.idle = ("mel.",)
        self.unet = DeepUnet(config)
        self.cnn = Conv2d(config.en_out_channels, _PLANES, (3, 3), padding=(1, 1))
        features = _PLANES * config.n_mels
        head = [nn.Linear(2 * HIDDEN if config.n_gru else features, PITCHES), nn.Dropout(config.dropout), nn.Sigmoid()]
        self.fc = nn.Sequential(*([BiGRU(features, HIDDEN, config.n_gru)] if config.n_gru else []), *head)
        torch_init_(self, config.seed)

    def unused_parameters(self) -> list[paddle.Tensor]:
        """Parameters that no gradient ever reaches; data parallelism wants them frozen."""
        return self.unet.tf.parameters() if self.config.timbre_filter == "idle" else []

    def forward(self, mel: paddle.Tensor, logits: bool = False) -> paddle.Tensor:
        """``logits`` leaves out the sigmoid."""
        return self.logits(mel) if logits else F.sigmoid(self.logits(mel))

    def logits(self, mel: paddle.Tensor) -> paddle.Tensor:
        """What the sigmoid makes the result of, ``[B, mel bands, T] -> [B, T, 360]``.

        In training the original's dropout comes before the sigmoid: zeros among the logits, 0.5 in the result.
        """
        linear, dropout, _ = list(self.fc)[-3:]
        return dropout(linear(self.hidden(mel)))

    def hidden(self, mel: paddle.Tensor) -> paddle.Tensor:
        """What is left to be classified: ``[B, mel bands, T] -> [B, T, 512]``, or 3·bands without recurrent layer."""
        frames = mel.shape[2]
        picture = pad_frames(mel, self.config.step).transpose([0, 2, 1]).unsqueeze(1)  # [B, 1, T, F]
        planes = self.cnn(self.unet(picture))
        features = planes.transpose([0, 2, 1, 3]).flatten(2)  # [B, T, 3·F]
        hidden = self.fc[0](features) if self.config.n_gru else features
        return card.cut(hidden, 1, 0, frames) if hidden.shape[1] > frames else hidden


def pad_frames(mel: paddle.Tensor, multiple: int) -> paddle.Tensor:
    """Mirrors the end of ``[B, bands, T]`` until the frames are a multiple, to and fro where there are few.

    Raises:
        ValueError: there is no frame
    """
    frames = mel.shape[2]
    if frames < 1:
        raise ValueError("a spectrogram needs at least one frame")
    missing = -frames % multiple
    while missing:
        have = mel.shape[2]
        count = min(missing, max(have - 1, 1))
        mel = card.pad(mel, 0, count, mode="reflect" if have > 1 else "replicate")
        missing -= count
    return mel
