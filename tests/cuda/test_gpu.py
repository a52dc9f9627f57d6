"""The tests of ``simulated_*.py`` on a GPU, where there is one."""

from __future__ import annotations

import pytest

from tests.cuda.test_simulator import GROUPS, LIMIT, assert_passed, run_tests


def reason_against() -> str:
    """Return why there is no GPU to test on, in one line, or nothing."""
    from stabsim.devices import DeviceError

    try:
        from stabsim.cuda import shim

        shim.require()
    except DeviceError as error:
        return str(error)
    return ""


@pytest.mark.gpu
@pytest.mark.timeout(LIMIT)
@pytest.mark.parametrize("group", GROUPS)
def test_on_a_gpu(group: str) -> None:
    if reason := reason_against():
        pytest.skip(reason)
    assert_passed(run_tests(GROUPS[group], simulated=False, chosen="slow or not slow"))
