"""Packages, bags and published names of the Demucs family."""

import hashlib
import re

import numpy as np
import pytest

import models
import pretrained
from pretrained import demucs
from pretrained.__main__ import main
from pretrained.package import is_package, read_package, write_package
from runtime.errors import UserError
from tests.pretrained.torch_writer import package, quantised, save

SOURCES = ["drums", "bass", "other", "vocals"]
SMALL = {"channels": 8, "depth": 3, "segment": 1, "samplerate": 8000}
KLASS = "demucs.demucs.Demucs"


@pytest.fixture(scope="module")
def network():
    return models.create("demucs", sources=SOURCES, **SMALL, seed=7)


def _half(state):
    return {name: array.astype(np.float16) for name, array in state.items()}


def _package(network, path, *args, **changes):
    state = _half(pretrained.reference_state(network))
    save(package(KLASS, state, *args, **{"sources": SOURCES, **SMALL, **changes}, training={"seed": 42}), path)


def _same(model, state):
    found = pretrained.reference_state(model)
    return found.keys() == state.keys() and all(np.array_equal(found[name], state[name]) for name in state)


def _repository(folder, network):
    folder.mkdir()
    _package(network, folder / "aaaa1111.th")
    whole = (folder / "aaaa1111.th").read_bytes()
    (folder / f"bbbb2222-{hashlib.sha256(whole).hexdigest()[:8]}.th").write_bytes(whole)
    return folder


def test_a_package_is_a_network_with_its_weights(tmp_path, network):
    _package(network, tmp_path / "x.th")
    found = read_package(tmp_path / "x.th")
    assert (found.network, found.options["channels"], found.training) == ("demucs", 8, {"seed": 42})
    model = found.build()
    assert model.description.sources == tuple(SOURCES)
    assert not model.training
    expected = _half(pretrained.reference_state(network))
    assert _same(model, {name: array.astype(np.float32) for name, array in expected.items()})


def test_arguments_by_position_and_unknown_ones(tmp_path, network):
    save(package(KLASS, pretrained.reference_state(network), SOURCES, **SMALL, flavour=3), tmp_path / "x.th")
    said = []
    model = read_package(tmp_path / "x.th").build(said.append)
    assert model.description.sources == tuple(SOURCES)
    assert said == [f"{tmp_path / 'x.th'}: without the arguments flavour, which demucs does not know"]


def test_options_that_a_package_does_not_name_are_those_of_the_class(tmp_path):
    """Not those of the published variant of the same name."""
    save(package("demucs.htdemucs.HTDemucs", {}, sources=SOURCES), tmp_path / "x.th")
    assert read_package(tmp_path / "x.th").options["bottom_channels"] == 0


def test_weights_must_fit_exactly(tmp_path, network):
    state = pretrained.reference_state(network)
    name = next(iter(state))
    missing = {key: value for key, value in state.items() if key != name}
    for wrong, said in [(missing, "1 missing"), ({**state, "more": np.zeros(1, np.float32)}, "1 unexpected")]:
        save(package(KLASS, wrong, sources=SOURCES, **SMALL), tmp_path / "x.th")
        with pytest.raises(UserError, match=rf"x\.th: the weights do not fit.*{said}"):
            read_package(tmp_path / "x.th").build()


def test_weights_packed_by_diffq(tmp_path, network):
    state = pretrained.reference_state(network)
    rng, least = np.random.default_rng(0), 0.002
    large = [name for name, array in state.items() if array.size > least * 2**20 // 4]
    assert 0 < len(large) < len(state)
    widths = {name: rng.integers(2, 15, state[name].size // 8) for name in large}
    packed, expected = quantised(state, widths, min_size=least)
    save(package(KLASS, packed, sources=SOURCES, **SMALL), tmp_path / "q.th")
    assert _same(read_package(tmp_path / "q.th").build(), expected)

    packed["others"].pop()
    save(package(KLASS, packed, sources=SOURCES, **SMALL), tmp_path / "q.th")
    with pytest.raises(UserError, match=r"q\.th: the quantised weights hold too little"):
        read_package(tmp_path / "q.th").build()


def test_groups_that_the_format_loses_are_reported(tmp_path, network):
    state = pretrained.reference_state(network)
    widths = {name: np.full(array.size // 8, 15) for name, array in state.items()}
    packed, _ = quantised(state, widths, min_size=0.002)
    save(package(KLASS, packed, sources=SOURCES, **SMALL), tmp_path / "q.th")
    with pytest.raises(UserError, match="groups of weights are 15 bits wide"):
        read_package(tmp_path / "q.th").build()


def test_what_is_written_can_be_read(tmp_path, network):
    path = tmp_path / "x.safetensors"
    write_package(path, network, {"seed": 42}, {"nsdr": 3.5}, half=False)
    assert is_package(path)
    found = read_package(path)
    assert (found.training, found.metrics) == ({"seed": 42}, {"nsdr": 3.5})
    assert _same(found.build(), pretrained.reference_state(network))
    assert pretrained.load_weights(models.create("demucs", sources=SOURCES, **SMALL), path).kind == "package"


def test_the_hybrid_network_of_torchaudio_in_its_wrapper(tmp_path):
    model = models.create("torch_hdemucs", channels=4, depth=5, nfft=1024, segment=2)
    write_package(tmp_path / "x.safetensors", model, half=False)
    found = read_package(tmp_path / "x.safetensors")
    assert found.network == "torch_hdemucs"
    assert all(name.startswith("torch_hdemucs.") for name in found.state)
    assert _same(found.build(), pretrained.reference_state(model))


def test_files_that_are_no_packages_are_named(tmp_path, network):
    cases = {
        "empty.th": ({"state": {}}, "does not say which network"),
        "other.th": (package("demucs.tasnet.Other", {}), "its network is demucs.tasnet.Other"),
        "option.th": (package(KLASS, {}, sources=SOURCES, channels=0), "channels"),
    }
    for name, (content, said) in cases.items():
        save(content, tmp_path / name)
        with pytest.raises(UserError, match=rf"{name}.*{said}"):
            read_package(tmp_path / name)
    with pytest.raises(UserError, match=r"no package .*nothing\.th"):
        read_package(tmp_path / "nothing.th")


def test_published_names():
    assert {"htdemucs", "htdemucs_ft", "htdemucs_6s", "hdemucs_mmi", "mdx", "mdx_extra_q"} < set(demucs.names())
    assert len(demucs.signatures()) == 27
    assert demucs.signatures()["955717e8"] == "hybrid_transformer/955717e8-8726e21a.th"
    for name in demucs.names():
        wanted, weights, _ = demucs.read_bag(demucs.BAGS / f"{name}.yaml")
        assert set(wanted) <= demucs.signatures().keys()
        assert weights is None or len(weights) == len(wanted)


def test_a_repository_of_ones_own(tmp_path, network):
    repo = _repository(tmp_path / "repo", network)
    (repo / "both.yaml").write_text("models: [aaaa1111, bbbb2222, aaaa1111]\nsegment: 3\n")
    single, bag = demucs.get_model("bbbb2222", repo), demucs.get_model("both", repo)
    assert (single.name, len(single.models), single.segments) == ("bbbb2222", 1, (1.0,))
    assert (bag.segments, bag.weights) == ((3.0,) * 3, ((1.0,) * 4,) * 3)
    assert bag.models[0] is bag.models[2]
    assert (bag.sources, bag.samplerate, bag.audio_channels) == (tuple(SOURCES), 8000, 2)
    with pytest.raises(UserError, match=r"no model bot in .*repo.*both"):
        demucs.get_model("bot", repo)
    (repo / "aaaa1111-00000000.th").write_bytes(b"")
    with pytest.raises(UserError, match="several packages of one network"):
        demucs.get_model("both", repo)
    (repo / "aaaa1111.th").unlink()
    with pytest.raises(UserError, match=r"aaaa1111-00000000\.th is damaged"):
        demucs.get_model("aaaa1111", repo)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("models: []", "lists no models"),
        ("models: [aaaa1111]\nweights: [[1, 1]]", "4 numbers"),
        ("models: [aaaa1111]\nweights: [[1, 1, 1, 0]]", "weights of vocals"),
        ("models: [aaaa1111]\nsegment: long", "segment a number"),
        ("models: [cccc]", "no package of cccc"),
        ("models: [", "no YAML file"),
    ],
)
def test_bags_that_contradict_themselves(tmp_path, network, text, said):
    repo = _repository(tmp_path / "repo", network)
    (repo / "odd.yaml").write_text(text)
    with pytest.raises(UserError, match=said):
        demucs.get_model("odd", repo)


def test_a_segment_never_makes_a_fixed_length_longer():
    model = models.create("htdemucs", sources=SOURCES, channels=8, depth=3, nfft=512, bottom_channels=0, t_layers=1,
                          t_heads=2, segment=2, samplerate=8000)  # fmt: skip
    assert demucs.Bag.of([model], segment=1).segments == (1.0,)
    assert demucs.Bag.of([model], segment=3).segments == (2.0,)


def test_the_segment_of_a_bag_is_the_length_that_its_networks_work_on(tmp_path):
    model = models.create("htdemucs", sources=SOURCES, channels=8, depth=3, nfft=512, bottom_channels=0, t_layers=1,
                          t_heads=2, segment=2, samplerate=8000)  # fmt: skip
    write_package(tmp_path / "aaaa1111.safetensors", model)
    for segment, samples in ((1, 8000), (3, 16000)):
        (tmp_path / "bag.yaml").write_text(f"models: [aaaa1111]\nsegment: {segment}\n")
        (found,) = demucs.get_model("bag", tmp_path).models
        assert (found.description.segment, found.valid_length(100)) == (samples, samples)


def test_published_weights_are_fetched_and_verified(tmp_path, network, monkeypatch):
    _package(network, tmp_path / "made.th")
    content = (tmp_path / "made.th").read_bytes()
    name = f"955717e8-{hashlib.sha256(content).hexdigest()[:8]}.th"
    monkeypatch.setattr(demucs, "_FILES", {"mirror": name.removesuffix(".th")})
    (tmp_path / "server" / "mirror").mkdir(parents=True)
    (tmp_path / "server" / "mirror" / name).write_bytes(content)
    monkeypatch.setenv("DEMUCS_URL", (tmp_path / "server").as_uri())
    monkeypatch.setenv("MODEL_PATH", str(tmp_path / "kept"))
    with pytest.raises(UserError, match="downloading is off"):
        demucs.get_model("htdemucs", offline=True)
    bag = demucs.get_model("htdemucs")
    assert bag.packages[0].path == tmp_path / "kept" / "demucs" / name
    demucs.get_model("955717e8", offline=True)
    bag.packages[0].path.write_bytes(content[:-1])
    with pytest.raises(UserError, match="is damaged"):
        demucs.get_model("955717e8")


def test_packages_of_the_original(tmp_path):
    """Written by the original, with random weights: read here, they are the original's weights."""
    torch = pytest.importorskip("torch")
    states = pytest.importorskip("demucs.states")
    from demucs.demucs import Demucs
    from omegaconf import OmegaConf

    torch.manual_seed(0)
    model = Demucs(SOURCES, **SMALL)
    torch.save(states.serialize_model(model, OmegaConf.create({"seed": 42})), tmp_path / "x.th")
    mine = read_package(tmp_path / "x.th").build()
    assert _same(mine, {name: value.half().float().numpy() for name, value in model.state_dict().items()})

    quantizer = pytest.importorskip("diffq").DiffQuantizer(model, min_size=0.002, group_size=8)
    for parameter in quantizer._qparams:
        parameter.logit.data += torch.randn_like(parameter.logit).clamp(max=2)  # the format loses groups of 15 bits
    torch.save(states.serialize_model(model, OmegaConf.create({}), quantizer), tmp_path / "q.th")
    mine = read_package(tmp_path / "q.th").build()
    quantizer.quantize()
    theirs = {name: value.numpy() for name, value in model.state_dict().items() if not name.endswith("_diffq")}
    assert _same(mine, theirs)


def test_the_command_lists_and_fetches(capsys, tmp_path):
    assert main(["list", "--root", str(tmp_path)]) == 0
    listed = [" ".join(line.split()) for line in capsys.readouterr().out.splitlines()]
    assert any(line.startswith(f"htdemucs_ft 0 of 4 in {tmp_path / 'demucs'} https://") for line in listed)
    with pytest.raises(UserError, match=r"92cfc3b6-ef3bcb9c\.th|f7e0c4bc-ba3fe64a\.th"):
        main(["download", "htdemucs_ft", "--offline", "--root", str(tmp_path)])
    with pytest.raises(UserError, match="DEMUCS_URL"):
        main(["download", "htdemucs", "--url", "file:///nowhere"])


def test_weights_of_the_second_generation_are_numbered_without_norms(tmp_path):
    options = {**SMALL, "dconv_mode": 0, "lstm_layers": 2, "gelu": False, "norm_starts": 9, "normalize": False}
    state = pretrained.reference_state(models.create("demucs", sources=SOURCES, **options))
    moved = {re.sub(r"^((?:en|de)coder\.\d)\.3\.", r"\1.2.", name): array for name, array in state.items()}
    assert moved.keys() != state.keys()
    save(package(KLASS, moved, sources=SOURCES, **options), tmp_path / "x.th")
    assert _same(read_package(tmp_path / "x.th").build(), state)


def test_an_empty_repository_says_so(tmp_path):
    with pytest.raises(UserError, match=r"holds neither packages \(.th, .safetensors\) nor bags"):
        demucs.locate("htdemucs", tmp_path)
