"""The configurations that come with the program: complete, consistent with the networks, and explained."""

from pathlib import Path

import pytest

from models.registry import describe
from runtime import config
from training.prepare import check_numbers, plain
from training.segments import cache_spec

FOLDER = Path(config.__file__).resolve().parents[1] / "configs" / "spleeter"
NAMES = sorted(path.stem for path in FOLDER.glob("*.yaml"))


@pytest.mark.parametrize("name", NAMES)
def test_every_configuration_describes_a_network_and_its_data(name):
    cfg = config.load(f"spleeter/{name}")
    check_numbers(cfg)
    description = describe(cfg.network, **plain(cfg.model))
    assert list(description.sources) == list(cfg.model.instruments)
    assert cache_spec(cfg).frames_in(cache_spec(cfg).chunk_samples) >= cfg.model.segment_frames


@pytest.mark.parametrize("name", [name for name in NAMES if "stems" in name])
def test_published_networks_are_as_the_registry_knows_them(name):
    cfg = config.load(f"spleeter/{name}")
    published = dict(describe(cfg.network).config)
    ours = dict(describe(cfg.network, **plain(cfg.model)).config)
    assert ours | {"seed": 0} == published | {"seed": 0}


def test_every_key_is_explained_beside_it():
    lines = (FOLDER / "base.yaml").read_text(encoding="utf-8").split("machine_only:")[0].splitlines()
    keys = [line for line in lines if line.strip() and not line.lstrip().startswith(("#", "-")) and ":" in line]
    unexplained = [line for line in keys if "#" not in line and not line.rstrip().endswith(":")]
    assert not unexplained
