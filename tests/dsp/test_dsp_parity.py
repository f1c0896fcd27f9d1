import pytest

from tests.parity import golden
from tests.parity.cases_dsp import CASES


@pytest.mark.parametrize(
    "name", ["dsp_spleeter_stft", "dsp_torch_stft", "dsp_demucs_spec", "dsp_julius_resample", "dsp_msst_demix"]
)
def test_golden_outputs_of_the_reference_implementations(shared_parity, name):
    case = golden.load(shared_parity / f"{name}.npz")
    results = CASES[case.arch, case.op](case)
    assert case.outputs.keys() <= results.keys()
    failed = [output for output in case.outputs if not case.compare(output, results[output]).ok]
    assert failed == []
