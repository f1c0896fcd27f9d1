"""Golden cases of the time-domain networks of facebookresearch/demucs: a forward pass, and one training step."""

from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np

from tests.parity import golden
from tests.parity.golden import Case


def build(name: str, options: dict[str, Any], case: Case) -> Any:
    """The network of a case with its weights; the number of trainable parameters must be the reference's."""
    import models
    import pretrained

    model = models.create(name, **options)
    trainable = sum(parameter.size for parameter in model.parameters() if not parameter.stop_gradient)
    if case.n_params and trainable != case.n_params:
        raise AssertionError(f"{trainable} trainable parameters, the reference has {case.n_params}")
    pretrained.load_reference_state(model, case.state)
    return model


def gradients(model: Any, names: list[str]) -> dict[str, np.ndarray]:
    """Norm of every gradient, and its projection on a direction given by its name, in the reference's layout."""
    from pretrained.names import links

    parameters = dict(model.named_parameters())
    found = {
        link.theirs: link.to_theirs(parameters[link.ours].grad.numpy())
        for link in links(model)
        if link.ours in parameters and parameters[link.ours].grad is not None
    }
    if set(found) != set(names):
        raise AssertionError(f"gradients differ in {sorted(set(found) ^ set(names))}")
    directions = [golden.make_tensor(f"grad:{name}", list(found[name].shape), "embedding", 1.0) for name in names]
    return {
        "grad_norm": np.array([np.linalg.norm(found[name].astype(np.float64)) for name in names]),
        "grad_proj": np.array([np.vdot(d, found[name]) for d, name in zip(directions, names, strict=True)]),
    }


def forward(case: Case, create: Callable[[Case], Any]) -> dict[str, np.ndarray]:
    """Separated waveforms ``[B, S, C, N]``."""
    import paddle

    model = create(case)
    model.eval()
    with paddle.no_grad():
        return {"output": model(paddle.to_tensor(case.inputs["mix"])).numpy()}


def train_l1(case: Case, create: Callable[[Case], Any]) -> dict[str, np.ndarray]:
    """Mean absolute error of one forward pass in training mode, and its gradients."""
    import paddle

    model = create(case)
    model.train()
    output = model(paddle.to_tensor(case.inputs["mix"]))
    loss = (output - paddle.to_tensor(case.inputs["target"])).abs().mean()
    loss.backward()
    return {"output": output.numpy(), "loss": loss.numpy(), **gradients(model, case.grad_names)}


def _demucs(case: Case) -> Any:
    return build("demucs", case.config, case)


def _classic(case: Case, name: str, **defaults: Any) -> Any:
    from models.demucs_config import from_classic

    return build(name, {**defaults, **from_classic(case.config)}, case)


_tasnet = partial(_classic, name="tasnet", X=8)  # the default of the class; the published network has 10
_NETWORKS = {
    "demucs.Demucs": _demucs,
    "demucs_v1.Demucs": partial(_classic, name="demucs_v1"),
    "demucs_v2.Demucs": partial(_classic, name="demucs_v2"),
    "demucs_v1.ConvTasNet": _tasnet,
    "demucs_v2.ConvTasNet": _tasnet,
}
CASES = {
    (arch, op): partial(run, create=create)
    for arch, create in _NETWORKS.items()
    for op, run in (("forward", forward), ("train_l1", train_l1))
}
