"""Adapters that run golden metric cases through the package `metrics`."""

from __future__ import annotations

from typing import Any

import numpy as np

from metrics import sdr, spectral
from metrics.bss_eval import bss_eval_v4, framewise_sdr
from metrics.pitch import pitch_scores


def museval_v4(case: Any) -> dict[str, np.ndarray]:
    """1-s frames of all sources together, their medians, and the single-source cSDR with 2-s windows."""
    rate = case.run["rate"]
    references, estimates = case.inputs["references"], case.inputs["estimates"]
    outputs = {}
    for name, frames in bss_eval_v4(references, estimates, rate, rate).items():
        outputs[name.lower()] = frames
    pairs = zip(references, estimates, strict=True)
    outputs["csdr_2s"] = np.stack([framewise_sdr(r, e, 2 * rate, 1.5 * rate) for r, e in pairs])
    return outputs | {f"{name}_median": np.nanmedian(frames, axis=1) for name, frames in outputs.items()}


def sdr_family(case: Any) -> dict[str, np.ndarray]:
    """One value per source of every metric; a case with its own log-WMSE filter is run with that one."""
    references, estimates, mixture = (case.inputs[name] for name in ("reference", "estimate", "mixture"))
    fir = case.inputs.get("log_wmse_fir")
    outputs = {
        "nsdr": sdr.nsdr(references, estimates),
        "usdr": sdr.usdr(references, estimates),
        "msst_sdr": sdr.msst_sdr(references, estimates),
        "msst_si_sdr": sdr.msst_si_sdr(references, estimates),
        "apollo_neg_snr": -sdr.snr(references, estimates),
        "apollo_neg_sisdr": -sdr.si_sdr(references, estimates),
        "apollo_neg_sdsdr": -sdr.sd_sdr(references, estimates),
    }
    spectra: dict[str, list[float]] = {}
    for reference, estimate in zip(references, estimates, strict=True):
        bleedless, fullness = spectral.bleedless_fullness(reference, estimate)
        values = {
            "l1_freq": spectral.l1_freq(reference, estimate),
            "log_wmse": spectral.log_wmse(mixture, reference, estimate, fir),
            "aura_stft": spectral.aura_stft(reference, estimate),
            "aura_mrstft": spectral.aura_mrstft(reference, estimate),
            "bleedless": bleedless,
            "fullness": fullness,
        }
        for name, value in values.items():
            spectra.setdefault(f"msst_{name}", []).append(value)
    return outputs | {name: np.array(values) for name, values in spectra.items()}


def mir_eval(case: Any) -> dict[str, np.ndarray]:
    """RPA, RCA, OA, VR, VFA of an estimate on the reference's grid, on another one, and of the extreme tracks."""
    reference, estimate = case.inputs["ref_f0"], case.inputs["est_f0"]
    times = np.arange(len(reference)) * case.run["hop_ms"]
    same = np.arange(len(estimate)) * case.run["hop_ms"]
    other = np.arange(len(estimate)) * case.run["est_hop_ms"]
    silent = np.zeros_like(reference)
    return {
        "same_grid": pitch_scores(times, reference, same, estimate).as_array(),
        "est_on_other_grid": pitch_scores(times, reference, other, estimate).as_array(),
        "no_estimate": pitch_scores(times, reference, times, silent).as_array(),
        "perfect": pitch_scores(times, reference, times, reference).as_array(),
        "unvoiced_reference": pitch_scores(times, silent, same, estimate).as_array(),
    }


CASES = {(None, "museval"): museval_v4, (None, "sdr_family"): sdr_family, (None, "mir_eval"): mir_eval}
