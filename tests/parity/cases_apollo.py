"""Golden cases of Apollo: the network, its discriminator, the losses of both, and the original's ways to cut a song."""

from typing import Any

import numpy as np

from tests.parity.cases_demucs import gradients
from tests.parity.golden import Case


def _network(case: Case) -> Any:
    """The network of a case with its weights; the tables of angles, which no case holds, stay its own."""
    import models
    import pretrained

    model = models.create("apollo", **case.config)
    trainable = sum(parameter.size for parameter in model.parameters())
    if case.n_params and trainable != case.n_params:
        raise AssertionError(f"{trainable} trainable parameters, the reference has {case.n_params}")
    tables = {name: table.numpy() for name, table in model.named_buffers()}
    pretrained.load_reference_state(model, tables | case.state)
    return model


def forward(case: Case) -> dict[str, np.ndarray]:
    """Restored waveforms ``[B, C, N]``, and the features of the bands ``[B·C, K, N', T]``."""
    import paddle

    model, mix = _network(case), paddle.to_tensor(case.inputs["mix"])
    model.eval()
    with paddle.no_grad():
        features = model.features(mix).transpose([0, 2, 3, 1])
        return {"output": model(mix).squeeze(1).numpy(), "feature": features.numpy()}


def train(case: Case) -> dict[str, np.ndarray]:
    """Both distances of one forward pass in training mode, and the gradients of the one that is asked for."""
    import paddle

    from training import apollo_losses

    model = _network(case)
    model.train()
    output, target = model(paddle.to_tensor(case.inputs["mix"])).squeeze(1), paddle.to_tensor(case.inputs["target"])
    losses = {"freq_mae": apollo_losses.frequency_error(output, target), "l1": (output - target).abs().mean()}
    loss = losses[case.run["loss"]]
    loss.backward()
    values = {name: value.numpy() for name, value in losses.items()}
    return {"loss": loss.numpy(), **values, **gradients(model, case.grad_names)}


def discriminate(case: Case) -> dict[str, np.ndarray]:
    """What the discriminator says of real and fake music, and the losses made of it."""
    import paddle

    import pretrained
    from models.apollo_config import DiscriminatorConfig
    from models.apollo_discriminator import MultiFrequencyDiscriminator
    from training import apollo_losses

    model = MultiFrequencyDiscriminator(DiscriminatorConfig(**case.config))
    pretrained.load_reference_state(model, case.state)
    model.eval()
    real, fake = (paddle.to_tensor(case.inputs[name]) for name in ("real", "fake"))
    with paddle.no_grad():
        (real_logits, real_maps), (fake_logits, fake_maps) = model(real), model(fake)
        terms = apollo_losses.generator_loss(fake_logits, fake_maps, real_maps, fake, real)[1]
        results = {
            "dis_loss": apollo_losses.discriminator_loss(real_logits, fake_logits),
            "gen_loss": sum(terms.values()),
            "freq_mae": terms["freq_mae"],
            **{f"neg_{kind}": apollo_losses.negative_sdr(fake, real, kind) for kind in apollo_losses.SDR_KINDS},
        }
    for scale, (real_logit, fake_logit, maps) in enumerate(zip(real_logits, fake_logits, real_maps, strict=True)):
        results |= {f"real_logit{scale}": real_logit, f"fake_logit{scale}": fake_logit}
        results |= {f"real_map{scale}_{place}": each for place, each in enumerate(maps)}
    return {name: value.numpy() for name, value in results.items()}


def chunked(case: Case) -> dict[str, np.ndarray]:
    """A song in chunks that are cross-faded, ``[1, C, N]``."""
    size, overlap, batch = (case.run[key] for key in ("chunk_samples", "overlap_samples", "chunk_batch_size"))
    return {"output": _restored(case, case.inputs["mix"][0], "reference:linear", size, overlap / size, batch)[None]}


def forked(case: Case) -> dict[str, np.ndarray]:
    """A song in chunks that overlap several times, ``[C, N]``."""
    size, overlap, batch = (case.run[key] for key in ("chunk_size", "overlap", "batch_size"))
    return {"output": _restored(case, case.inputs["mix"], "reference", size, 1 - 1 / overlap, batch)}


def _restored(case: Case, mix: np.ndarray, window: str, size: int, overlap: float, batch: int) -> np.ndarray:
    from inference import Separator

    options = {"window": window, "segment": size / case.config["sr"], "overlap": overlap, "batch": batch}
    return Separator.from_model(_network(case), **options).separate(mix)["restored"]


CASES = {
    ("Apollo", "apollo_chunked"): chunked,
    ("Apollo", "apollo_fork"): forked,
    ("Apollo", "apollo"): forward,
    ("Apollo", "apollo_wav"): forward,
    ("Apollo", "train_apollo"): train,
    ("MultiFrequencyDiscriminator", "disc"): discriminate,
}
