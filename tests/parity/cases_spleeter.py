"""Golden cases of deezer/spleeter: a separation from waveform to stems, and one training step."""

from typing import Any

import numpy as np

from tests.parity import golden
from tests.parity.golden import Case


def _build(case: Case) -> Any:
    import models
    import pretrained
    from models.spleeter_config import from_official

    model = models.create("spleeter_2stems", **from_official(case.config))
    trainable = sum(parameter.size for parameter in model.parameters())
    if case.n_params and trainable != case.n_params:
        raise AssertionError(f"{trainable} trainable parameters, the reference has {case.n_params}")
    pretrained.load_reference_state(model, case.state)
    return model


def _channels_first(x: np.ndarray) -> np.ndarray:
    """``[…, T, F, C]`` to ``[…, C, T, F]``."""
    return np.ascontiguousarray(np.moveaxis(x, -1, -3))


def _channels_last(x: np.ndarray) -> np.ndarray:
    """``[…, C, T, F]`` to ``[…, T, F, C]``."""
    return np.moveaxis(x, -3, -1)


def separate(case: Case) -> dict[str, np.ndarray]:
    """Network outputs per segment, masks, and waveforms of every instrument."""
    import paddle

    from dsp.stft import SpleeterSTFT
    from inference.spectral import ratio_masks
    from inference.wiener import WienerFilter

    model = _build(case)
    model.eval()
    config = model.config
    transform = SpleeterSTFT(config.frame_length, config.frame_step)
    waveform = np.ascontiguousarray(case.inputs["waveform"].T)  # [C, N]
    mixture = transform.forward(waveform)  # [C, T, bins]
    frames = mixture.shape[1]
    padding = -frames % config.segment_frames
    magnitude = np.pad(np.abs(mixture[..., : config.frequency_bins]), [(0, 0), (0, padding), (0, 0)])
    segments = magnitude.reshape(len(magnitude), -1, config.segment_frames, config.frequency_bins).swapaxes(0, 1)
    with paddle.no_grad():
        outputs = [model(paddle.to_tensor(segment[None])).numpy()[0] for segment in segments]  # each [S, C, T, F]
    whole = np.concatenate(outputs, axis=2)[:, :, :frames]  # [S, C, T, F]
    results = {f"spec_{name}": _channels_last(np.stack(outputs)[:, i]) for i, name in enumerate(config.instruments)}

    if case.config.get("MWF"):
        wiener = WienerFilter()
        wiener.observe(whole, mixture)
        wiener.advance()
        estimates = wiener.apply(whole, mixture[..., : config.frequency_bins])
        above = mixture.shape[-1] - config.frequency_bins
        stems = np.pad(estimates, [(0, 0), (0, 0), (0, 0), (0, above)])
    else:
        exponent = case.config.get("separation_exponent", 2)
        masks = ratio_masks(whole, exponent, mixture.shape[-1], case.config.get("mask_extension", "zeros"))
        results.update({f"mask_{name}": _channels_last(masks[i]) for i, name in enumerate(config.instruments)})
        stems = masks * mixture
    for i, name in enumerate(config.instruments):
        results[f"wav_{name}"] = transform.inverse(stems[i], waveform.shape[1]).T
    return results


def train(case: Case) -> dict[str, np.ndarray]:
    """Loss, predicted magnitudes, and every gradient's norm and projection on a direction given by its name."""
    import paddle

    from training.recipes.spleeter import magnitude_loss

    model = _build(case)
    model.train()
    instruments = model.config.instruments
    mixture = _channels_first(case.inputs["mix"])  # [B, C, T, F]
    ratios = np.stack([_channels_first(case.inputs[f"ratio_{name}"]) for name in instruments], axis=1)
    targets = paddle.to_tensor(mixture[:, None] * ratios)
    outputs = model(paddle.to_tensor(mixture))
    loss, _ = magnitude_loss(outputs, targets, case.config.get("loss_type", "L1_mask"))
    loss.backward()
    norms, projections = _gradients(model, case.grad_names)
    results = {"loss": loss.numpy(), "grad_norm": norms, "grad_proj": projections}
    for i, name in enumerate(instruments):
        results[f"output_{name}"] = _channels_last(outputs[:, i].numpy())
    return results


def _gradients(model: Any, names: list[str]) -> tuple[np.ndarray, np.ndarray]:
    """Norms and projections in the reference's layout; only the named parameters may have a gradient."""
    from pretrained.names import links

    parameters = dict(model.named_parameters())
    gradients = {
        link.theirs: link.to_theirs(parameters[link.ours].grad.numpy())
        for link in links(model)
        if link.ours in parameters and parameters[link.ours].grad is not None
    }
    if set(gradients) != set(names):
        raise AssertionError(f"gradients differ in {sorted(set(gradients) ^ set(names))}")
    norms = [np.linalg.norm(gradients[name].astype(np.float64)) for name in names]
    projections = [
        np.vdot(golden.make_tensor(f"grad:{name}", list(gradients[name].shape), "embedding", 1.0), gradients[name])
        for name in names
    ]
    return np.array(norms), np.array(projections)


CASES = {
    (arch, op): run
    for arch in ("spleeter.unet.unet", "spleeter.unet.softmax_unet")
    for op, run in (("spleeter", separate), ("spleeter_train", train))
}
