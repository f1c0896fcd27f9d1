"""A tiny data set, and configurations of runs on it."""

import functools
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from data import cache
from data.index import read_index
from data.scan import build_index
from data.synthetic import write_songs
from runtime import config
from tests.training.runs import settings, train
from training.segments import cache_spec


@pytest.fixture(scope="session")
def songs(tmp_path_factory) -> dict[str, Path]:
    """Five synthetic songs (one for validation) of 4.5 s, indexed and cached for ``spleeter/tiny``."""
    folder = tmp_path_factory.mktemp("songs")
    write_songs(folder / "dataset", songs=5, seconds=4.5, seed=3, sample_rate=16000, splits={"valid": 1})
    build_index(folder / "dataset")
    places = {"dataset": folder / "dataset", "cache": folder / "cache"}
    cfg = config.load("spleeter/tiny", settings(places))
    index = read_index(cfg.data.index)
    cache.build(index, cache_spec(cfg), cfg.data.cache)
    return places


@pytest.fixture
def configure(songs, tmp_path) -> Callable[..., Any]:
    """``configure("train.lr=1", folder="other")``: a configuration of a run below the test's folder."""

    def make(*overrides: str, folder: str = "model") -> Any:
        return config.load("spleeter/tiny", [*settings(songs), f"model_dir={tmp_path / folder}", *overrides])

    return make


@pytest.fixture(scope="session")
def uninterrupted(songs, tmp_path_factory) -> Callable[..., Any]:
    """``uninterrupted("train.steps=6")``: the configuration of a run that nobody stopped, trained when first asked."""
    folder = tmp_path_factory.mktemp("uninterrupted")

    @functools.cache
    def make(*overrides: str) -> Any:
        cfg = config.load("spleeter/tiny", [*settings(songs), f"model_dir={folder}", *overrides])
        assert train(cfg) == 0
        return cfg

    return make
