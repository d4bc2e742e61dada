"""`sgxkit enclave edl` as people run it."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from jsonschema import Draft202012Validator

from sgxkit.cli.main import run

ROOT = Path(__file__).parents[2]
SGXKIT = Path(sys.executable).with_name("sgxkit")
WALLET = """
enclave {
    from "sgx_tstdc.edl" import *;
    include "wallet.h"
    enum kind { COIN, NOTE = 7 };
    union word { uint32_t whole; uint8_t bytes[4]; };
    struct entry { uint32_t size; [size=size] uint8_t* data; };
    struct opaque { item_t item; };
    trusted {
        public int wallet_add([in] const struct entry* e, enum kind k, [in, string] const char* name);
        public void wallet_show([out, isptr, size=16] item_t* p, item_t i);
        void wallet_inner() transition_using_threads;
    };
    untrusted {
        [cdecl] void ocall_show([in, string] const char* text) allow(wallet_inner) propagate_errno;
    };
};
"""


@pytest.fixture
def wallet(tmp_path: Path) -> Path:
    path = tmp_path / "wallet.edl"
    path.write_text(WALLET.replace("[out, isptr, size=16] item_t* p", "[out, size=16] item_t* p"))
    return path


def document(capsys: pytest.CaptureFixture[str], *arguments: str | Path) -> tuple[int, dict[str, Any]]:
    code = run(["enclave", "edl", *map(str, arguments), "--json"])
    parsed: dict[str, Any] = json.loads(capsys.readouterr().out)
    return code, parsed


def test_the_document_is_what_the_schema_says(wallet: Path, capsys: pytest.CaptureFixture[str]) -> None:
    schema = json.loads((ROOT / "docs/schema/edl.schema.json").read_bytes())
    Draft202012Validator.check_schema(schema)
    code, found = document(capsys, wallet)
    assert code == 0
    Draft202012Validator(schema).validate(found)
    assert [ecall["name"] for ecall in found["ecalls"]] == ["wallet_add", "wallet_show", "wallet_inner"]
    assert [ocall["index"] for ocall in found["ocalls"]] == list(range(6))
    add, show, inner = found["ecalls"]
    assert [field["offset"] for field in add["marshalling"]["fields"]] == [0, 8, 16, 24, 32]
    assert show["marshalling"] is None
    assert show["unknown"] == "the size of the type item_t is not known"
    assert (inner["private"], inner["switchless"], inner["marshalling"], inner["unknown"]) == (True, True, None, None)
    _, known = document(capsys, wallet, "--type", "item_t=uint16_t[3]")
    assert known["ecalls"][1]["marshalling"]["size"] == 16


def test_the_tree(wallet: Path) -> None:
    shown = subprocess.run([SGXKIT, "enclave", "edl", wallet], capture_output=True, check=True, text=True).stdout
    assert "0 int wallet_add([in] const struct entry* e, enum kind k, [in, string] const char* name)" in shown
    assert "0x0008 ms_e: const struct entry*" in shown
    assert "struct entry 16 bytes" in shown
    assert "NOTE: 7" in shown


def test_wrong_input(wallet: Path, tmp_path: Path) -> None:
    wallet.write_text("enclave {\n  trusted { public \x1b[31mvoid f(); };\n};\n")
    for arguments, said in (
        ([wallet], "wallet.edl:2:20: unexpected character"),
        ([tmp_path / "none.edl"], "cannot be read"),
        ([wallet, "--type", "x"], "x is not NAME=TYPE"),
    ):
        failed = subprocess.run([SGXKIT, "enclave", "edl", *arguments], capture_output=True, check=False, text=True)
        assert failed.returncode == 3
        assert said in failed.stderr
        assert "\x1b" not in failed.stderr
        assert not failed.stdout


def test_a_library_needs_no_public_ecall(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "events.edl"
    path.write_text("enclave { untrusted { void o(); }; };")
    code, refused = document(capsys, path)
    assert code == 3
    assert refused["error"]["code"] == "format"
    assert document(capsys, path, "--library")[0] == 0
