"""Golden cases of the inference room: the multichannel Wiener filter of open-unmix."""

import numpy as np

from inference.wiener import OPEN_UNMIX_EPS, wiener
from tests.parity.golden import Case


def open_unmix_wiener(case: Case) -> dict[str, np.ndarray]:
    """Every stored combination of iterations and residual, in the reference's layout."""
    magnitudes = np.ascontiguousarray(case.inputs["magnitude"].transpose(3, 2, 0, 1))  # [S, C, T, F]
    mixture = case.inputs["mix"]
    if not np.iscomplexobj(mixture):
        mixture = mixture[..., 0] + 1j * mixture[..., 1]
    mixture = np.ascontiguousarray(mixture.transpose(2, 0, 1), np.complex64)  # [C, T, F]
    options = {
        "softmask": bool(case.run.get("softmask", False)),
        "eps": case.run.get("eps", OPEN_UNMIX_EPS),
        "scale_factor": case.run.get("scale_factor", 10.0),
    }
    results = {}
    for iterations in case.run["iterations"]:
        for residual in case.run["residual"]:
            estimates = wiener(magnitudes, mixture, iterations, residual=bool(residual), **options)
            estimates = estimates.transpose(2, 3, 1, 0)  # [T, F, C, S]
            name = f"iterations{iterations}_residual{int(residual)}"
            results[name] = np.stack([estimates.real, estimates.imag], axis=3)
    return results


CASES = {(None, "wiener"): open_unmix_wiener}
