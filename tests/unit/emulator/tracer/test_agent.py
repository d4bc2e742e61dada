"""The agent's code is what agent.s says, and its places are where the tracer looks for them."""

import shutil
import subprocess
from pathlib import Path

import pytest

import sgxkit.emulator.tracer
from sgxkit.emulator.tracer import agent

SOURCE = Path(sgxkit.emulator.tracer.__file__).parent / "agent.s"


def test_the_code_is_assembled_from_its_source(tmp_path: Path) -> None:
    for tool in ("as", "objcopy", "nm"):
        if shutil.which(tool) is None:
            pytest.skip(f"{tool} is not installed")
    subprocess.run(["as", "-o", "agent.o", str(SOURCE)], cwd=tmp_path, check=True)
    subprocess.run(["objcopy", "-O", "binary", "-j", ".text", "agent.o", "agent.bin"], cwd=tmp_path, check=True)
    assert (tmp_path / "agent.bin").read_bytes() == agent.CODE
    listed = subprocess.run(["nm", "agent.o"], cwd=tmp_path, check=True, capture_output=True, text=True).stdout
    symbols = {name: int(value, 16) for value, _, name in (line.split() for line in listed.splitlines())}
    assert agent.SYMBOLS.items() <= symbols.items()
    assert agent.entry_address(0) - agent.address_of("enter_enclave") == symbols["TABLE"]
    assert agent.gs_slot(0) - agent.address_of("enter_enclave") == symbols["BY_GS"]


def test_places_do_not_overlap() -> None:
    assert agent.SYSCALL + len(agent.code()) == agent.VDSO + agent.VDSO_SIZE
    assert agent.VDSO + agent.VDSO_SIZE <= agent.AGENT + agent.CODE_SIZE <= agent.entry_address(0)
    assert agent.entry_address(63 << 12) + 128 <= agent.gs_slot(0)
    assert agent.gs_slot(63 << 12) + 8 <= agent.SCRATCH < agent.AGENT + agent.AGENT_SIZE


def test_transitions_are_recognised_from_their_first_change_on() -> None:
    assert not agent.in_transition(agent.AEP)
    assert not agent.in_transition(agent.address_of("slow_exit"))
    assert agent.in_transition(agent.address_of("entering") + 5)
    assert agent.in_transition(agent.address_of("exit"))
