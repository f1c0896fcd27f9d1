"""A card computes what the processor does: a training step of the Demucs networks, and separation with packages."""

import os
import re
import subprocess
import sys

import numpy as np
import pytest
import soundfile

import models
from pretrained import write_package
from sdaa_emulator import environment
from tests.end_to_end.side_by_side import side_by_side
from tests.sdaa.cards import LOGGED, ROOT, on_card

NETWORKS = {
    "demucs": {"channels": 4, "depth": 3, "norm_starts": 1, "dconv_attn": 2, "dconv_lstm": 2, "dconv_comp": 1},
    "hdemucs": {"channels": 4, "nfft": 256, "depth": 4, "norm_starts": 2, "dconv_attn": 2, "dconv_lstm": 2}
    | {"dconv_comp": 2},
    "htdemucs": {"channels": 4, "nfft": 256, "depth": 2, "norm_starts": 1, "dconv_comp": 2, "bottom_channels": 16}
    | {"t_layers": 2, "t_dropout": 0.0},
}
SETTINGS = {"samplerate": 8000, "segment": "3/8"}  # 3000 samples

STEP = """
import json
from training.audit_steps import random_stems, subject
from training.audit_training import WaveformRecipe

def run(name, options):
    audited = subject(name, [f"model.{key}={json.dumps(value)}" for key, value in options.items()])
    recipe, stems = WaveformRecipe(audited), random_stems(audited.description, 1, 3000)
    model = recipe.build_model()
    adam, learnt = recipe.optimizer(model), {n: p for n, p in model.named_parameters() if not p.stop_gradient}
    loss, _ = recipe.loss(model, {"stems": stems, "place": (0, 0)})
    loss.backward()
    slopes = {name: parameter.grad.numpy() for name, parameter in learnt.items()}
    adam.step()
    adam.clear_grad()
    model.eval()
    with paddle.no_grad():
        return slopes, {"loss": loss.numpy(), "separated": model(paddle.to_tensor(stems.sum(axis=1))).numpy()}

for name, options in NETWORKS.items():
    results = []
    for device in ("cpu", "sdaa:0"):
        paddle.set_device(device)
        results.append(run(name, options))
    norm = sum(float(np.square(slope).sum()) for slope in results[0][0].values()) ** 0.5
    for (host, computed), least in zip(zip(*results), (norm / 100, 0.0)):  # some gradients are zero but for rounding
        for key, array in host.items():
            away = np.abs(computed[key] - array).max() / max(np.abs(array).max(), least)
            assert away <= 1e-5, (name, key, away)
print("agreed")
"""


def test_a_training_step_has_the_numbers_of_the_processor():
    networks = {name: options | SETTINGS for name, options in NETWORKS.items()}
    assert "agreed" in on_card(STEP.replace("NETWORKS", repr(networks)), strict=True).stdout


@pytest.fixture(scope="module")
def repo(tmp_path_factory):
    """A package of each network, and a bag of all of them."""
    folder = tmp_path_factory.mktemp("repo")
    signatures = [f"{number:08x}" for number in range(len(NETWORKS))]
    for signature, (name, options) in zip(signatures, NETWORKS.items(), strict=True):
        write_package(folder / f"{signature}.safetensors", models.create(name, **SETTINGS, **options), half=False)
    (folder / "three.yaml").write_text(f"models: {signatures}\n")
    return folder


def test_the_separator_writes_what_it_writes_on_the_processor(tmp_path, repo):
    song = tmp_path / "song.wav"
    soundfile.write(song, np.random.default_rng(0).uniform(-0.4, 0.4, (7001, 2)), 8000)

    def separate(device: str) -> subprocess.CompletedProcess:
        options = ["--device", device, "-n", "three", "--repo", repo, "--float32", "--shifts", "1", "--seed", "5"]
        return subprocess.run(
            [sys.executable, "separator.py", song, *map(str, options), "-o", tmp_path / device],
            cwd=ROOT,
            env=environment(cards=1, given=os.environ | {"OMP_NUM_THREADS": "1"} | LOGGED),
            capture_output=True,
            text=True,
            timeout=300,
            check=False,
        )

    done = side_by_side(separate, ("cpu", "sdaa"))
    assert [run.returncode for run in done.values()] == [0, 0], done["sdaa"].stderr[-3000:]
    assert "device: sdaa:0" in done["sdaa"].stdout
    assert re.findall(r"missing sdaa kernel: (\w+)", done["sdaa"].stderr) == []
    files = sorted((tmp_path / "cpu").rglob("*.wav"))
    assert len(files) == 4
    for path in files:
        host, card = (soundfile.read(tmp_path / name / path.relative_to(tmp_path / "cpu"))[0] for name in done)
        assert host.shape == (7001, 2) and np.abs(card - host).max() <= 1e-5 * np.abs(host).max(), path.name
