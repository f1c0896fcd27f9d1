"""Golden cases of the signal path: transforms, resampling, chunked processing."""

import numpy as np

from dsp.overlap_add import demix
from dsp.resample import sinc_resample
from dsp.stft import (
    SpleeterSTFT,
    demucs_ispec,
    demucs_magnitude,
    demucs_spec,
    istft,
    periodic_hann,
    stft,
)
from tests.parity.golden import Case


def _faded(spec: np.ndarray, frame_axis: int = -1) -> np.ndarray:
    """Scales frames by 0.5 … 1.5: a spectrogram that no signal has, as inverses meet after masking."""
    gains = np.linspace(0.5, 1.5, spec.shape[frame_axis], dtype=np.float32)
    return spec * gains.reshape([-1 if axis == frame_axis % spec.ndim else 1 for axis in range(spec.ndim)])


def spleeter_stft(case: Case) -> dict[str, np.ndarray]:
    """Arrays here are [time, channel] and [frame, bin, channel]."""
    config = case.config
    transform = SpleeterSTFT(config["frame_length"], config["frame_step"])
    outputs = {}
    for length in case.run["lengths"]:
        spec = transform.forward(case.inputs["waveform"][:length].T)
        inverse = transform.inverse(_faded(spec, 1), length)
        segments = -(-spec.shape[1] // config["T"])
        outputs[f"{length}_stft"] = spec.transpose(1, 2, 0)
        outputs[f"{length}_inverse"] = inverse.T
        outputs[f"{length}_segments_shape"] = np.array([segments, config["T"], config["F"], spec.shape[0]])
    return outputs


def torch_stft(case: Case) -> dict[str, np.ndarray]:
    outputs = {}
    for name, stored in case.run["cases"].items():
        options = dict(stored)
        length = options.pop("length", case.inputs["wav"].shape[-1])
        if options.pop("hann", True):
            options["window"] = periodic_hann(options.get("win_length") or options["n_fft"])
        spec = stft(case.inputs["wav"][:, :length], **options)
        outputs[name] = spec
        if f"{name}_inverse" in case.outputs:
            options.pop("pad_mode", None)
            outputs[f"{name}_inverse"] = istft(_faded(spec), length=length, **options)
    return outputs


def demucs_dsp(case: Case) -> dict[str, np.ndarray]:
    outputs = {}
    for name, options in case.run["models"].items():
        variant = {"hybrid": options.get("hybrid", True), "old": options.get("hybrid_old", False)}
        for length in case.run["lengths"]:
            if f"{name}_{length}_spec" not in case.outputs:
                continue  # too short for the original
            spec = demucs_spec(case.inputs["wav"][None, :, :length], options.get("nfft", case.run["nfft"]), **variant)
            outputs[f"{name}_{length}_spec"] = spec
            outputs[f"{name}_{length}_magnitude"] = demucs_magnitude(spec, options.get("cac", True))
            outputs[f"{name}_{length}_ispec"] = demucs_ispec(_faded(spec), length, **variant)
    return outputs


def julius(case: Case) -> dict[str, np.ndarray]:
    options = {key: case.run[key] for key in ("zeros", "rolloff") if key in case.run}
    return {f"{old}_{new}": sinc_resample(case.inputs["wav"], old, new, **options) for old, new in case.run["ratios"]}


def demix_toy(case: Case) -> dict[str, np.ndarray]:
    outputs = {}
    for name, (length, chunk, num_overlap, batch_size) in case.run["cases"].items():
        weight = np.linspace(0.5, 1.5, chunk, dtype=np.float32)

        def network(batch: np.ndarray, weight: np.ndarray = weight) -> np.ndarray:
            return np.stack([batch * weight, 2 * batch * weight], axis=1)

        for mode in ("generic", "demucs"):
            mix = case.inputs["wav"][:, :length]
            outputs[f"{name}_{mode}"] = demix(mix, network, chunk, num_overlap, batch_size, mode)
    return outputs


CASES = {
    (None, "spleeter_stft"): spleeter_stft,
    (None, "torch_stft"): torch_stft,
    (None, "demucs_dsp"): demucs_dsp,
    (None, "julius"): julius,
    (None, "demix_toy"): demix_toy,
}
