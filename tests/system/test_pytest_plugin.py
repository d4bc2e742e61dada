"""The pytest plugin, in test suites that use it."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path

import pytest

from doubles.compiled_enclave import EDL, compiled_enclave
from sgxkit.lab.store import create_lab
from sgxkit.lab.world import new_world

pytest_plugins = ["pytester"]
GUIDE = Path(__file__).parents[2] / "docs" / "sdk-enclaves.md"


@pytest.fixture(scope="module")
def image(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Made before pytester notes which modules it must unload: NumPy cannot be loaded twice."""
    return compiled_enclave(tmp_path_factory.mktemp("enclave"))


def test_an_enclave_in_a_test(image: Path, pytester: pytest.Pytester) -> None:
    shutil.copy(image, pytester.path)
    pytester.makepyfile(
        f"""
        import pytest
        from sgxkit.sdk.status import EnclaveCrashed

        @pytest.fixture
        def calls(sgx_enclave):
            return sgx_enclave("calls.signed.so", {str(EDL)!r})

        def test_adds(calls):
            assert calls.add(40, 2) == 42

        def test_ocall(calls):
            said = []
            calls.ocall("say")(lambda text: said.append(text) or len(text))
            calls.greet("pytest")
            assert said[0] == "Hello, pytest"

        def test_crash(calls):
            with pytest.raises(EnclaveCrashed):
                calls.peek(0)

        def test_fails(calls):
            calls.peek(0)
        """
    )
    result = pytester.runpytest_subprocess("--strict-markers")
    result.assert_outcomes(passed=3, failed=1)
    result.stdout.fnmatch_lines(["*EnclaveCrashed: peek failed with SGX_ERROR_ENCLAVE_CRASHED*", "*#0 * look*"])


def test_the_test_suite_of_the_guide(image: Path, pytester: pytest.Pytester) -> None:
    (code,) = re.findall(r"<!-- test suite -->\n```python\n(.*?)^```", GUIDE.read_text(), re.MULTILINE | re.DOTALL)
    shutil.copy(image, pytester.path)
    shutil.copy(EDL, pytester.path)
    pytester.makepyfile(code)
    pytester.runpytest_subprocess("--strict-markers").assert_outcomes(passed=4)


def test_the_marker_picks_the_machine(pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SGXKIT_STATE_DIR", str(pytester.path / "state"))
    world = new_world("wallet", datetime.now(UTC), cpu="sapphire-rapids")
    create_lab(world, seed=bytes(32))
    pytester.makepyfile(
        """
        import pytest

        def test_default(sgx_platform):
            assert (sgx_platform.info.kind, sgx_platform.info.name) == ("emulated", "icelake-sp")

        @pytest.mark.sgx_lab(profile="skylake-client", epc_size=1 << 20)
        def test_profile(sgx_platform):
            assert not sgx_platform.info.flexible_launch_control
            assert sgx_platform.info.epc_size == 1 << 20

        @pytest.mark.sgx_lab("wallet")
        def test_lab(sgx_platform):
            assert sgx_platform.info.name == "wallet"

        @pytest.mark.sgx_lab("nothing")
        def test_no_lab(sgx_platform):
            pass

        @pytest.mark.sgx_lab(profile="pentium")
        def test_no_profile(sgx_platform):
            pass

        @pytest.mark.sgx_lab("wallet", seed="x")
        def test_both(sgx_platform):
            pass

        @pytest.mark.sgx_lab(seed="mine")
        class TestSeed:
            def test_secrets_come_from_the_seed(self, sgx_platform):
                from sgxkit.emulator.fuses import Fuses
                from sgxkit.emulator.profile import ICELAKE_SP
                assert sgx_platform.processor.fuses == Fuses.from_seed(b"mine", profile=ICELAKE_SP)
        """
    )
    result = pytester.runpytest_subprocess("--strict-markers")
    result.assert_outcomes(passed=4, errors=3)
    result.stdout.fnmatch_lines(["*there is no lab nothing*", "*there is no profile pentium*", "*a lab has its own*"])


def test_the_marker_is_described(pytester: pytest.Pytester) -> None:
    result = pytester.runpytest_subprocess("--markers")
    result.stdout.fnmatch_lines(["@pytest.mark.sgx_lab(name): *"])


def test_nothing_else_is_imported_with_the_plugin() -> None:
    heavy = "('numpy', 'unicorn', 'cryptography')"
    code = f"""
import sys
import pytest, sgxkit.pytest_plugin
print(*(name for name in sys.modules if name.startswith('sgxkit') or name in {heavy}))
"""
    found = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True, cwd=Path("/"))
    assert set(found.stdout.split()) == {"sgxkit", "sgxkit.pytest_plugin"}
