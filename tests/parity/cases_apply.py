"""Golden cases of ``demucs.apply``: chunks, shifts, bags, on networks small enough for a test."""

from dataclasses import fields
from fractions import Fraction
from numbers import Real
from types import SimpleNamespace
from typing import Any

import numpy as np

from tests.parity.cases_hdemucs import options
from tests.parity.golden import Case

NAMES = {"demucs.Demucs": "demucs", "demucs.HDemucs": "hdemucs", "demucs.HTDemucs": "htdemucs"}


def _network(arch: str, config: dict[str, Any], state: dict[str, np.ndarray]) -> Any:
    import models
    import pretrained

    model = models.create(NAMES[arch], **options(NAMES[arch], config))
    pretrained.load_reference_state(model, state)
    model.eval()
    return model


def _model(case: Case) -> Any:
    if "models" not in case.config:
        return _network(case.arch, case.config, case.state)
    parts = []
    for number, (arch, config) in enumerate(case.config["models"]):
        mark = f"m{number}."
        state = {name.removeprefix(mark): array for name, array in case.state.items() if name.startswith(mark)}
        parts.append(_network(arch, _shortened(arch, config, case.config.get("segment")), state))
    return SimpleNamespace(models=parts, weights=case.config.get("weights"))


def _shortened(arch: str, config: dict[str, Any], segment: float | None) -> dict[str, Any]:
    """A bag's segment takes the place of its networks' own, except that a fixed length only becomes shorter."""
    own = options(NAMES[arch], config)
    if segment is None or (arch == "demucs.HTDemucs" and segment > _seconds(own["segment"])):
        return config
    return {**config, "segment": segment}


def _seconds(length: Any) -> Real:
    return Fraction(length) if isinstance(length, str) else length


def _run(case: Case) -> dict[str, Any]:
    """The arguments of the original's ``apply_model``; text stands for a fraction of seconds."""
    return {key: _seconds(value) if key == "segment" else value for key, value in case.run.items()}


def run(case: Case) -> dict[str, np.ndarray]:
    """The estimates ``[B, S, C, N]``; ``offsets`` are what the original drew."""
    from inference import apply_model

    return {"output": apply_model(_model(case), case.inputs["mix"], **_run(case))}


def run_normalised(case: Case) -> dict[str, np.ndarray]:
    """The same with the mixture normalised, by the separator if it knows the options, which recorded draws are not."""
    from inference import apply_model
    from inference.options import Options
    from inference.separator import Separator

    (mix,), how = case.inputs["mix"], _run(case)
    if how.keys() <= {each.name for each in fields(Options)}:
        separator = Separator.from_model(_model(case), **how)
        return {"output": np.stack(list(separator.separate(mix).values()))[None]}
    mono = mix.mean(axis=0, dtype=np.float64)
    mean, scale = np.float32(mono.mean()), np.float32(mono.std(ddof=1) + 1e-8)
    return {"output": apply_model(_model(case), (mix[None] - mean) / scale, **how) * scale + mean}


CASES = {
    **{(arch, "apply"): run for arch in (*NAMES, "demucs.BagOfModels")},
    **{(arch, "apply_norm"): run_normalised for arch in (*NAMES, "demucs.BagOfModels")},
}
