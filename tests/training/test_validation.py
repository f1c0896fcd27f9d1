"""Validation: shares of several processes, order, stopping, and what is heard of it."""

import math
import threading

import numpy as np
import paddle
import pytest

from runtime import config
from tests.training.runs import outcome, train
from training.validation import Validation


class Segments:
    """Segment i holds the number value(i)."""

    shapes = {"mixture": (1,)}  # noqa: RUF012 a stand-in

    def __init__(self, values):
        self.values = values

    def __len__(self):
        return len(self.values)

    def fill(self, epoch, index, out):
        out["mixture"][:] = self.values[index]
        return {"song": f"song {index}"}

    def song_of(self, epoch, index):
        return f"song {index}"


class Reader:
    """Scores a segment by its number."""

    scores = ("loss", "square")

    def validate(self, model, batch):
        assert not model.training
        values = batch["mixture"][:, 0].astype(np.float64)
        return {"loss": values, "square": values**2}


class Threads:
    """A group whose processes are threads of this one."""

    def __init__(self, size):
        self.size, self.barrier, self.values = size, threading.Barrier(size), [None] * size

    def member(self, rank):
        member = type("Member", (), {"rank": rank, "size": self.size})()
        member.all_reduce_sum = lambda values: self._sum(rank, values)
        return member

    def _sum(self, rank, values):
        self.values[rank] = values
        self.barrier.wait()
        total = sum(self.values)
        self.barrier.wait()
        return total


def scores(values, processes, batch_size=2, segments=None, stop_after=None):
    group, results = Threads(processes), [None] * processes

    def work(rank):
        asked = iter(range(10**6))
        stop = (lambda: next(asked) >= stop_after) if stop_after is not None else (lambda: False)
        validation = Validation(Segments(values), Reader(), group.member(rank), batch_size, segments)
        results[rank] = validation.run(paddle.nn.Linear(1, 1), stop)

    threads = [threading.Thread(target=work, args=(rank,)) for rank in range(processes)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert all(result == results[0] for result in results)
    return results[0]


VALUES = np.random.default_rng(5).standard_normal(11).astype(np.float32) * np.logspace(-8, 8, 11, dtype=np.float32)


@pytest.mark.parametrize("processes", [1, 2, 3, 12])
@pytest.mark.parametrize("batch_size", [1, 4])
def test_the_mean_is_exact_however_it_is_shared(processes, batch_size):
    result = scores(VALUES, processes, batch_size)
    assert result["loss"] == math.fsum(VALUES.astype(np.float64)) / 11
    assert result["square"] == math.fsum(VALUES.astype(np.float64) ** 2) / 11


def test_some_segments_evenly_spread():
    assert scores(np.arange(11, dtype=np.float32), 2, segments=3)["loss"] == (0 + 5 + 10) / 3


def test_all_processes_stop_together():
    assert scores(VALUES, 3, 1, stop_after=2) is None
    assert scores(VALUES, 3, 1, stop_after=4) is not None  # asked before each of the four rounds


def test_validation_uses_the_average_and_best_keeps_it(configure):
    cfg = configure("train.steps=4", "train.valid_every=2", "train.ema=0.5")
    train(cfg)
    groups, state = outcome(cfg, "best")
    assert sorted(groups) == ["ema", "model"]
    assert state["best_step"] == state["step"] == min(state["history"], key=lambda line: line["valid"]["loss"])["step"]
    plain = configure("train.steps=4", "train.valid_every=2", folder="plain")
    train(plain)
    history, averaged = outcome(plain)[1]["history"], outcome(cfg)[1]["history"]
    assert [line["train"] for line in history] == [line["train"] for line in averaged]
    assert all(one["valid"]["loss"] != two["valid"]["loss"] for one, two in zip(history, averaged, strict=True))
    assert all(
        line["valid"]["loss"] == pytest.approx(line["valid"]["vocals"] + line["valid"]["accompaniment"])
        for line in history
    )


def test_at_the_end_of_every_epoch(configure):
    cfg = configure("train.epochs=3", "train.steps=null", "train.valid_every=0", "train.batch_size=3")
    train(cfg)
    history = outcome(cfg)[1]["history"]
    assert [(line["epoch"], line["step"]) for line in history] == [(1, 4), (2, 8), (3, 12)]


def test_curves_and_audio(configure):
    cfg = configure("train.steps=2", "train.valid_every=1", "train.visualdl=true", "train.audio_seconds=0.5")
    train(cfg)
    from visualdl import LogReader

    logs = config.run_folder(cfg, cfg.model_dir) / "logs"
    reader = LogReader(file_path=str(next(logs.glob("*.log"))))
    tags = reader.get_tags()
    assert {"train/loss", "train/vocals", "train/lr", "valid/loss"} <= set(tags["scalar"])
    assert {"audio/mixture", "audio/vocals", "audio/accompaniment"} <= set(tags["audio"])
    assert len(reader.get_data("scalar", "valid/loss")) == 2


def test_a_score_that_a_segment_does_not_have_does_not_count():
    class Partial(Reader):
        scores = ("loss", "square", "never")

        def validate(self, model, batch):
            scores = super().validate(model, batch)
            squares = np.where(scores["loss"] > 2, np.nan, scores["square"])
            return {**scores, "square": squares, "never": np.full_like(squares, np.nan)}

    network, group = paddle.nn.Linear(1, 1), Threads(1).member(0)
    validation = Validation(Segments([1.0, 2.0, 3.0]), Partial(), group, 2)
    assert validation.run(network, lambda: False) == {"loss": 2.0, "square": 2.5}
    broken = Validation(Segments([1.0, math.nan]), Partial(), group, 1)
    assert math.isnan(broken.run(network, lambda: False)["loss"])
