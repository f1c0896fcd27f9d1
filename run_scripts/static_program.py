"""Networks on waveforms as programs of Paddle Inference."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import numpy as np

from runtime.errors import UserError
from runtime.files import atomic_folder, write_json

PROGRAM, PARAMETERS, FACTS = "network.json", "network.pdiparams", "facts.json"
TOLERANCE = 1e-4  # of the largest output: what tells a wrong operator from rounding


def write(model: Any, folder: Path, name: str) -> float:
    """Write a network as a program for one mixture ``[1, C, N]`` of its natural length, and compare the two.

    Args:
        model: a network that eats waveforms, in evaluation mode, on the CPU
        folder: is made, and replaced if it is there
        name: of the network, for its facts

    Returns:
        the largest deviation as a share of the largest output

    Raises:
        UserError: it cannot be exported, or the program computes something else
    """
    import paddle

    facts = model.description
    length = int(model.valid_length(facts.segment))
    mixture = np.random.default_rng(0).standard_normal((1, facts.channels, length)).astype(np.float32) * 0.1
    with paddle.no_grad():
        expected = model(paddle.to_tensor(mixture)).numpy()
    with atomic_folder(folder, replace=True) as temporary:
        try:
            _save(model, [1, facts.channels, length], temporary)
        except (TypeError, ValueError, RuntimeError, NotImplementedError) as failure:
            reason = [line.strip() for line in str(failure).splitlines() if line.strip()][-1:]
            raise UserError(f"{name} cannot be exported as a program: {' '.join(reason)}") from failure
        error = float(np.abs(run(temporary, mixture) - expected).max() / max(np.abs(expected).max(), 1e-9))
        if not error <= TOLERANCE:
            raise UserError(f"the program of {name} deviates from it by {error:.1e} of its largest output")
        about = {"name": name, "sources": facts.sources, "sample_rate": facts.sample_rate, "paddle": paddle.__version__}
        shapes = {"input": mixture.shape, "output": expected.shape, "deviation": error}
        write_json(temporary / FACTS, about | shapes)
    return error


def run(folder: Path, mixture: np.ndarray) -> np.ndarray:
    """What the program in ``folder`` makes of a mixture ``[1, C, N]``: ``[1, S, C, N]``."""
    from paddle import inference

    config = inference.Config(str(folder / PROGRAM), str(folder / PARAMETERS))
    config.disable_gpu()
    config.disable_glog_info()
    config.disable_mkldnn()  # its kernels break the memory of hybrid networks with PaddlePaddle 3.3
    predictor = inference.create_predictor(config)
    predictor.get_input_handle(predictor.get_input_names()[0]).copy_from_cpu(mixture)
    predictor.run()
    return predictor.get_output_handle(predictor.get_output_names()[0]).copy_to_cpu()


def _save(model: Any, shape: list[int], folder: Path) -> None:
    import paddle

    from runtime.console import hushed

    class Program(paddle.nn.Layer):
        def __init__(self) -> None:
            super().__init__()
            self.network = model

        def forward(self, mix: paddle.Tensor) -> paddle.Tensor:
            return self.network(mix)

    # all lengths are known, so the code can be traced as it is; Paddle need not translate it
    paddle.jit.ignore_module([module for name, module in sys.modules.items() if name.startswith("models.")])
    spec = paddle.static.InputSpec(shape, "float32", "mix")
    program = Program()
    program.eval()
    with hushed():
        paddle.jit.save(program, str(folder / Path(PROGRAM).stem), input_spec=[spec])
