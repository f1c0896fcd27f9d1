"""Golden cases of ``demucs.apply``: chunks, shifts, bags, on networks small enough for a test."""

from fractions import Fraction
from types import SimpleNamespace
from typing import Any

import numpy as np

from tests.parity.golden import Case

NAMES = {"demucs.Demucs": "demucs", "demucs.HDemucs": "hdemucs", "demucs.HTDemucs": "htdemucs"}


def _network(arch: str, config: dict[str, Any], state: dict[str, np.ndarray]) -> Any:
    import models
    import pretrained

    options = {key: Fraction(value) if key == "segment" else value for key, value in config.items()}
    model = models.create(NAMES[arch], **options)
    pretrained.load_reference_state(model, state)
    model.eval()
    return model


def _model(case: Case) -> Any:
    if "models" not in case.config:
        return _network(case.arch, case.config, case.state)
    parts = []
    for number, (arch, config) in enumerate(case.config["models"]):
        mark = f"m{number}."
        parts.append(
            _network(arch, config, {k.removeprefix(mark): v for k, v in case.state.items() if k.startswith(mark)})
        )
    return SimpleNamespace(models=parts, weights=case.config["weights"])


def run(case: Case) -> dict[str, np.ndarray]:
    """The estimates ``[B, S, C, N]``; ``offsets`` are what the original drew."""
    from inference import apply_model

    return {"output": apply_model(_model(case), case.inputs["mix"], **case.run)}


def run_normalised(case: Case) -> dict[str, np.ndarray]:
    """The same with the mixture normalised as the separator does it."""
    from inference.separator import Separator

    (mix,) = case.inputs["mix"]
    separator = Separator.from_model(_model(case), **case.run)
    return {"output": np.stack(list(separator.separate(mix).values()))[None]}


CASES = {
    **{(arch, "apply"): run for arch in (*NAMES, "demucs.BagOfModels")},
    **{(arch, "apply_norm"): run_normalised for arch in (*NAMES, "demucs.BagOfModels")},
}
