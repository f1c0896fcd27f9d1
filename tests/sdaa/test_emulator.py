"""The emulated card: it is there, it is one of several, it runs out of memory, it refuses what the card refuses."""

import json
import re
import signal
import sys
import time
from concurrent.futures import ThreadPoolExecutor

import pytest

from sdaa_emulator import build
from tests.sdaa.cards import on_card

SAME = """
rng = np.random.default_rng(0)
def both(function, *shapes, dtype="float32"):
    inputs = [rng.standard_normal(shape).astype(dtype) for shape in shapes]
    results = []
    for device in ("cpu", "sdaa:0"):
        paddle.set_device(device)
        tensors = [paddle.to_tensor(each, stop_gradient=False) for each in inputs]
        result = function(*tensors)
        result.astype("float32").square().sum().backward()
        assert str(result.place) == f"Place({device})", result.place
        results.append([result.numpy(), *(each.grad.numpy() for each in tensors)])
    for host, card in zip(*results):
        np.testing.assert_allclose(card.astype("float32"), host.astype("float32"), rtol=1e-5, atol=1e-5)
"""


def test_it_is_built_once():
    assert build() == build()
    assert [path.name for path in build().iterdir()] == ["libpaddle-sdaa-emulator.so"]


def test_who_needs_it_at_the_same_time_waits_for_one_build(tmp_path, monkeypatch):
    builder, built = sys.modules[build.__module__], []

    def compile_slowly(compiler, paddle, folder):
        built.append(folder)
        time.sleep(0.2)
        (folder / builder.LIBRARY).touch()

    monkeypatch.setenv("PADDLESTEMS_CACHE", str(tmp_path))
    monkeypatch.setattr(builder, "_compile", compile_slowly)
    with ThreadPoolExecutor(2) as pool:
        folders = list(pool.map(lambda _: build(), range(2)))
    assert folders[0] == folders[1] and (folders[0] / builder.LIBRARY).is_file() and len(built) == 1


def test_visible_cards_are_those_of_the_system_in_the_order_asked_for():
    count = "print(paddle.device.get_available_custom_device())"
    assert "['sdaa:0', 'sdaa:1', 'sdaa:2']" in on_card(count, cards=3).stdout
    assert "['sdaa']" in on_card(count, cards=3, variables={"SDAA_VISIBLE_DEVICES": "2"}).stdout


def test_operators_and_their_gradients_equal_those_of_the_host():
    on_card(
        SAME
        + """
both(lambda a, b: a + b, [3, 4], [3, 4])
both(lambda a, b: paddle.matmul(a, b), [2, 3, 4], [2, 4, 5])
both(lambda x, w: F.conv2d(x, w, None, 2, 1), [2, 3, 8, 8], [4, 3, 3, 3])
both(lambda x, w: F.conv2d_transpose(x, w, None, 2), [2, 3, 4, 4], [3, 4, 5, 5])
both(lambda x, w: F.conv2d(x, w, groups=3), [2, 3, 8, 8], [3, 1, 3, 3])
both(lambda a, b: paddle.concat([a, b], 1)[:, 1:5].transpose([1, 0]), [3, 4], [3, 4])
both(lambda x: F.softmax(x, 1) * F.sigmoid(x) + F.leaky_relu(x, 0.2), [3, 4])
both(lambda x: x.abs().mean(0) + paddle.exp(x).sum(0) + x.clip(-0.5, 0.5).max(0), [3, 4])
both(lambda x, w: F.layer_norm(x, 4, w), [3, 4], [4])
both(lambda x: paddle.where(x > 0, x, x * 2).unsqueeze(1).tile([1, 2, 1]).squeeze(0), [1, 4])
both(lambda x: F.pad(F.elu(x), [1, 2], data_format="NCL"), [2, 3, 4])  # not the card's: by way of the host
"""
    )


def test_half_precision_is_computed():
    on_card(
        SAME
        + """
inputs = [rng.standard_normal(s).astype("float16") for s in ([2, 3, 8, 8], [4, 3, 3, 3])]
x, w = (paddle.to_tensor(each, stop_gradient=False) for each in inputs)
y = F.conv2d(x, w)
y.sum().backward()
assert y.dtype == paddle.float16 and w.grad.dtype == paddle.float16
paddle.set_device("cpu")
z = F.conv2d(*(paddle.to_tensor(each.astype("float32")) for each in inputs))
np.testing.assert_allclose(y.numpy().astype("float32"), z.numpy(), rtol=2e-3, atol=2e-3)
"""
    )


def test_out_of_memory_names_the_card_and_the_limit():
    done = on_card("a = paddle.zeros([64 << 20])", status=1, memory=100)
    assert re.search(r"sdaa emulator: out of memory on card 0: 256\.0 MiB asked for, .* of 100\.0 MiB", done.stderr)


TOUCH = """
import ctypes
x = paddle.arange(4, dtype="float32")
assert (x + x).numpy().tolist() == [0, 2, 4, 6]
print(ctypes.cast(x.data_ptr(), ctypes.POINTER(ctypes.c_float))[1])
"""


def test_strict_mode_crashes_where_the_host_touches_the_cards_memory():
    assert on_card(TOUCH).stdout.endswith("1.0\n")
    on_card(TOUCH, status=-signal.SIGSEGV, strict=True, variables={"FLAGS_enable_signal_handler": "0"})


REFUSED = {
    "F.conv2d(x, paddle.ones([4, 2, 3, 3]), groups=2)": "grouped convolutions",
    "F.conv2d(x, paddle.ones([4, 4, 5, 5]), stride=2, padding=[1, 2, 1, 2])": "differ between the two sides",
    "F.conv2d(x, paddle.ones([4, 4, 5, 5]), stride=2, padding='SAME')": "pads one side more",
    "F.conv2d_transpose(x, paddle.ones([4, 2, 3, 3]), groups=2)": "grouped convolutions",
    "F.conv1d(paddle.ones([1, 4, 8]), paddle.ones([4, 1, 3]), groups=4)": "grouped convolutions",
    "paddle.nn.GRU(4, 4)(paddle.ones([1, 3, 4]))": "every mode but LSTM",
    "evaluated(paddle.nn.LSTM(4, 4))(paddle.ones([1, 3, 4]))": "it can only train",
    "F.dropout(x, 0.5, mode='downscale_in_infer')": "upscale_in_train",
    "paddle.ones([1] * 5) > paddle.zeros([1] * 5)": "more than 4 dimensions",
    "paddle.ones([1] * 8).transpose(list(range(8)))": "more than 7 dimensions",
}


@pytest.fixture(scope="module")
def refusals() -> dict[str, str]:
    """What each of the calls is answered with."""
    body = f"""
import json
x = paddle.ones([1, 4, 8, 8])
def evaluated(network):
    network.eval()
    return network
answers = dict()
for call in {list(REFUSED)!r}:
    try:
        answers[call] = str(eval(call))
    except ValueError as error:
        answers[call] = str(error)
print(json.dumps(answers))
"""
    return json.loads(on_card(body).stdout.splitlines()[-1])


@pytest.mark.parametrize(("call", "reason"), REFUSED.items())
def test_what_the_card_refuses_is_refused(refusals, call, reason):
    assert re.search(f"sdaa emulator: .* of the card refuses .*{reason}", refusals[call])


def test_the_black_list_sends_a_refused_operator_to_the_host():
    body = "print(F.conv2d(paddle.ones([1, 4, 8, 8]), paddle.ones([4, 2, 3, 3]), groups=2).shape)"
    assert "[1, 4, 6, 6]" in on_card(body, variables={"CUSTOM_DEVICE_BLACK_LIST": "conv2d,conv2d_grad"}).stdout
