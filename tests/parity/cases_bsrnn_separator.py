"""Golden cases of amanteur/BandSplitRNN-Pytorch: a waveform through its separator, with and without a window."""

from typing import Any

import numpy as np

from tests.parity.golden import Case


def separator(case: Case) -> dict[str, np.ndarray]:
    """The stem as the reference's settings give it, and the geometry: chunk, hop, silence at both ends (samples)."""
    import models
    import pretrained
    from inference import Separator

    audio = case.config["audio_params"]
    model = models.create("bsrnn_vocals", target=audio["target"], **case.config["model"])
    pretrained.load_reference_state(model, case.state)
    size, hop, margin = geometry(audio, case.config["featurizer"]["direct_transform"])
    window = f"reference:{audio['window']}" if audio["window"] else "reference"
    options = {
        "segment": size / audio["sr"],
        "overlap": 1 - (hop + 0.5) / size,  # half a sample more, for it is rounded down
        "batch": audio["batch_size"],
        "window": window,
    }
    stems = Separator.from_model(model, **options).separate(case.inputs["wav"], audio["sr"])
    return {"output": stems[audio["target"]], "geometry": np.array([size, hop, margin])}


def geometry(audio: dict[str, Any], transform: dict[str, Any]) -> tuple[int, int, int]:
    """Chunk, hop and silence at both ends, of settings in seconds; frames of the transform fill the chunk."""
    length, step = (int(audio[key] * audio["sr"]) for key in ("win_size", "hop_size"))
    more = transform["win_length"] - length % transform["hop_length"]
    return length + more, step + more, length - step


CASES = {("BandSplitRNN.Separator", "separator"): separator}
