"""Golden cases of amanteur/BandSplitRNN-Pytorch: the network on a spectrogram, and one training step."""

from typing import Any

import numpy as np

from tests.parity.cases_demucs import build, gradients
from tests.parity.golden import Case


def network(case: Case) -> Any:
    """The network of a case with its weights."""
    run = {"n_fft": case.run["n_fft"], "hop_length": case.run["hop"]}
    return build("bsrnn_vocals", {**case.config, **run}, case)


def forward(case: Case) -> dict[str, np.ndarray]:
    """What the network makes of the spectrogram of a waveform, ``[B, C, F, T]``, and the waveform of that."""
    import paddle

    model = network(case)
    model.eval()
    wave = paddle.to_tensor(case.inputs["wav"])
    with paddle.no_grad():
        output = model.raw(model.transform(wave))
        if output.ndim == 4:  # magnitudes
            return {"output": output.numpy()}
        found = {"wav": model.inverse(output, wave.shape[2]).numpy()}
        return {"output": _complex(output.numpy()), **found}


def _complex(pairs: np.ndarray) -> np.ndarray:
    return pairs[:, :, 0] + 1j * pairs[:, :, 1]


def train(case: Case) -> dict[str, np.ndarray]:
    """Loss, its three terms and its gradients."""
    import paddle

    from training.recipes.bsrnn import losses

    model = network(case)
    model.train()
    loss, terms = losses(model, *(paddle.to_tensor(case.inputs[name]) for name in ("wav", "target")))
    loss.backward()
    found = np.array([float(terms[name]) for name in ("real", "imag", "wave")])
    return {"loss": loss.numpy(), "loss_terms": found, **gradients(model, case.grad_names)}


CASES = {("BandSplitRNN", "bsrnn"): forward, ("BandSplitRNN", "train_bsrnn"): train}
