"""Golden cases of RMVPE: yxlllc's port with its front end and decoding, and the networks of the paper."""

from typing import Any

import numpy as np

from tests.parity.cases_demucs import build, gradients
from tests.parity.golden import Case

_NAMES = {
    "rmvpe.E2E0": "rmvpe",
    "rmvpe.E2E": "rmvpe_e2e",
    "rmvpe_paper.E2E0": "rmvpe_paper_e2e0",
    "rmvpe_paper.E2E": "rmvpe_paper_e2e",
}
_THRESHOLD = 0.03


def _build(case: Case, **options: Any) -> Any:
    model = build(_NAMES[case.arch], {**case.config, **options}, case)
    model.eval()
    return model


def _front_end(model: Any, **options: Any) -> Any:
    from dsp.mel import LogMel

    keys = "sample_rate", "n_mels", "window", "hop_length", "f_min", "f_max"
    return LogMel(**{**{key: getattr(model.config, key) for key in keys}, **options})


def _run(model: Any, mel: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Recurrent features and salience of spectrograms ``[B, bands, T]``, each ``[B, T, …]``."""
    import paddle

    with paddle.no_grad():
        spectrogram = paddle.to_tensor(mel)
        return model.hidden(spectrogram).numpy(), model(spectrogram).numpy()


def pitch(case: Case) -> dict[str, np.ndarray]:
    """From the waveform to f0. The original pads to 32 frames whatever the network needs."""
    import paddle

    from dsp.salience import to_f0
    from models.rmvpe import pad_frames

    model = _build(case)
    mel = _front_end(model, hop_length=case.run.get("hop", model.config.hop_length))(case.inputs["audio"])
    padded = pad_frames(paddle.to_tensor(mel), 32).numpy()
    salience = _run(model, padded)[1][:, : mel.shape[2]]
    threshold = case.run.get("threshold", _THRESHOLD)
    decoded = {
        "f0": to_f0(salience[0], threshold),
        "f0_viterbi": to_f0(salience[0], threshold, viterbi=True),
    }
    return {"mel": mel, "output": salience, **decoded}


def train(case: Case) -> dict[str, np.ndarray]:
    """One step in training mode: loss, gradients, and what the running statistics have become."""
    import paddle
    import paddle.nn.functional as F

    from models.tensors import tensors

    model = _build(case, dropout=0.0)
    model.train()
    output = model(paddle.to_tensor(case.inputs["mel"]))
    loss = F.binary_cross_entropy(output, paddle.to_tensor(case.inputs["target"]))
    loss.backward()
    statistics = {
        kind: [tensor.numpy() for name, tensor in tensors(model).items() if _is_running(name, kind)]
        for kind in ("running_mean", "running_var")
    }
    return {
        "output": output.numpy(),
        "loss": loss.numpy(),
        **{f"{kind}_out": np.concatenate(values) for kind, values in statistics.items()},
        **gradients(model, case.grad_names),
    }


def _is_running(name: str, kind: str) -> bool:
    return name.endswith(kind) and not name.startswith("unet.tf.")


def paper(case: Case) -> dict[str, np.ndarray]:
    """The networks of the paper, whose own front end centres no frames."""
    from dsp.salience import to_cents

    model = _build(case)
    mel = _front_end(model, center=False)(case.inputs["audio"])
    hidden, salience = _run(model, mel)
    return {"mel": mel, "hidden": hidden, "output": salience, "cents": to_cents(salience[0], 0.0)}


def paper_inference(case: Case) -> dict[str, np.ndarray]:
    """The paper's way with long files: segments every half of one, of each of which the middle half is kept."""
    model, run = _build(case), case.run
    audio, segment, frames, hop = case.inputs["audio"], run["seg_len"], run["seg_frames"], run["hop_length"]
    whole = (-(-len(audio) // segment) + 1) * segment + segment // 2
    margin = model.config.window // 2
    padded = np.pad(audio, (segment // 4 + margin, whole - len(audio) - segment // 4 + margin))
    starts = range(0, whole - segment + 1, segment // 2)
    front_end = _front_end(model, hop_length=hop, center=False)
    mel = np.stack([front_end(padded[start : start + segment + 2 * margin]) for start in starts])
    inner, kept = slice(frames // 4, int(frames * 0.75)), len(audio) // hop + 1
    hidden, salience = (np.concatenate(each[:, inner])[:kept] for each in _run(model, mel))
    return {"hidden": hidden, "output": salience}


def mel(case: Case) -> dict[str, np.ndarray]:
    from dsp.mel import LogMel

    outputs = {}
    for name, stored in case.run["variants"].items():
        options = dict(stored)
        shift = {key: options.pop(key) for key in ("keyshift", "speed") if key in options}
        front_end = LogMel(hop_length=options.pop("hop", 160), **options)
        outputs[name] = front_end(case.inputs["audio"], **shift)
    return outputs


def resample(case: Case) -> dict[str, np.ndarray]:
    from dsp.resample import torchaudio_resample

    return {f"from_{rate}": torchaudio_resample(case.inputs["audio"], rate, 16000) for rate in case.run["rates"]}


def decode(case: Case) -> dict[str, np.ndarray]:
    from dsp.salience import to_cents, to_f0

    salience, threshold = case.inputs["salience"], case.run["threshold"]
    return {
        "f0": to_f0(salience, threshold),
        "f0_viterbi": to_f0(salience, threshold, viterbi=True),
        "cents": to_cents(salience, threshold),
        "cents_viterbi": to_cents(salience, threshold, viterbi=True),
        "cents_threshold0": to_cents(salience, 0.0),
    }


CASES = {
    **{
        (f"rmvpe.{kind}", op): run for kind in ("E2E", "E2E0") for op, run in (("rmvpe", pitch), ("train_rmvpe", train))
    },
    **{
        (f"rmvpe_paper.{kind}", op): run
        for kind in ("E2E", "E2E0")
        for op, run in (("rmvpe_paper", paper), ("rmvpe_paper_inference", paper_inference))
    },
    (None, "rmvpe_mel"): mel,
    (None, "rmvpe_resample"): resample,
    (None, "rmvpe_decode"): decode,
}
