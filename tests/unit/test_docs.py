"""The documents: links lead somewhere, both READMEs say the same, examples run, lists are complete."""

from __future__ import annotations

import json
import re
import shlex
import shutil
import tomllib
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from hashlib import sha256
from itertools import pairwise
from pathlib import Path
from urllib.parse import unquote

import pytest
import typer

from doubles import platform as made
from doubles.hosts import HOSTS
from real_quotes import SHARED, needs_vectors
from sgxkit.cli import main
from sgxkit.dcap import errors
from sgxkit.dcap.collateral import export_bundle
from sgxkit.dcap.errors import VerificationError
from sgxkit.dcap.policy_file import POLICY_KEYS, policy_from_settings
from sgxkit.dcap.tcb import TcbStatus
from sgxkit.dcap.verification import Step

ROOT = Path(__file__).resolve().parents[2]
ENGLISH, CHINESE = ROOT / "README.md", ROOT / "README.zh-CN.md"
DOCUMENTS = sorted({*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md")})
VERIFICATION = ROOT / "docs" / "verification.md"

_FENCE = re.compile(
    r"^(?P<fence>```+)(?P<language>[^\n`]*)\n(?P<code>.*?)^(?P=fence)[ \t]*$", re.MULTILINE | re.DOTALL
)
_INLINE_CODE = re.compile(r"(?P<ticks>`+).+?(?P=ticks)")
_HEADING = re.compile(r"^(#{1,6}) +(.+?)\s*$", re.MULTILINE)
_LINK = re.compile(r"\[[^\]\n]*\]\((?P<target>[^)\s]+)\)")
_EXAMPLE = re.compile(
    r"^<!-- runnable: (?P<name>[a-z-]+) -->\n```python\n(?P<code>.*?)^```$", re.MULTILINE | re.DOTALL
)
_POLICY = re.compile(r"^<!-- policy -->\n```toml\n(?P<code>.*?)^```$", re.MULTILINE | re.DOTALL)

# Words that have no place in a document for strangers: paths of one machine, and places only its author knows.
_DENIED = re.compile(
    r"/work/|/home/\w|/root/|/tmp/|file:///(?!opt/intel)|\.devpi|lab notes|\bTODO\b|\bFIXME\b|\bTBD\b", re.IGNORECASE
)


def prose(path: Path) -> str:
    """A document without its code."""
    return _INLINE_CODE.sub("", _FENCE.sub("", path.read_text()))


def anchors(path: Path) -> set[str]:
    """The anchors that GitHub makes of a document's headings."""
    found: list[str] = []
    for heading in _HEADING.finditer(_FENCE.sub("", path.read_text())):
        text = re.sub(r"\[([^\]]*)\]\([^)]*\)", r"\1", heading[2])
        slug = re.sub(r"[^\w\- ]", "", text.strip().lower()).replace(" ", "-")
        found.append(slug if slug not in found else f"{slug}-{found.count(slug)}")
    return set(found)


def relative_links(path: Path) -> Iterator[tuple[str, str]]:
    for link in _LINK.finditer(prose(path)):
        if not re.match(r"[a-z][a-z0-9+.-]*:", link["target"]):
            target, _, anchor = link["target"].partition("#")
            yield unquote(target), unquote(anchor)


def named(path: Path) -> str:
    return str(path.relative_to(ROOT))


@pytest.mark.parametrize("document", DOCUMENTS, ids=named)
def test_relative_links_lead_to_files_and_headings(document: Path) -> None:
    for target, anchor in relative_links(document):
        path = (document.parent / target).resolve() if target else document
        assert path.exists(), f"{target} does not exist"
        assert path.is_relative_to(ROOT), f"{target} is outside the project"
        if anchor:
            assert anchor in anchors(path), f"{target}#{anchor}: no such heading"


@pytest.mark.parametrize("document", DOCUMENTS, ids=named)
def test_documents_are_for_strangers(document: Path) -> None:
    found = _DENIED.search(document.read_text())
    assert found is None, found


def test_every_document_is_in_the_table_of_contents() -> None:
    docs = ROOT / "docs"
    linked = {(docs / target).resolve() for target, _ in relative_links(docs / "README.md")}
    assert {path for path in docs.glob("*.md") if path.name != "README.md"} <= linked
    reference = docs / "reference"
    linked = {(reference / target).resolve() for target, _ in relative_links(reference / "README.md")}
    assert {path for path in reference.glob("*.md") if path.name != "README.md"} <= linked


def test_both_readmes_have_the_same_shape() -> None:
    def levels(path: Path) -> list[int]:
        return [len(heading[1]) for heading in _HEADING.finditer(_FENCE.sub("", path.read_text()))]

    def table_rows(path: Path) -> int:
        return sum(line.startswith("|") for line in _FENCE.sub("", path.read_text()).splitlines())

    assert levels(ENGLISH) == levels(CHINESE)
    assert table_rows(ENGLISH) == table_rows(CHINESE)


def test_both_readmes_have_the_same_code() -> None:
    def code(path: Path) -> list[tuple[str, str]]:
        return [(block["language"], block["code"]) for block in _FENCE.finditer(path.read_text())]

    assert code(ENGLISH)
    assert code(ENGLISH) == code(CHINESE)


@pytest.fixture
def english(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LC_ALL", "C.UTF-8")


def test_the_diagnosis_in_the_readme_is_what_doctor_prints(
    english: None, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    facts = tmp_path / "facts.json"
    facts.write_text(json.dumps(HOSTS["dev-noexec"]().to_json()))
    assert main.run(["doctor", "--facts", str(facts), "--for", "attest"]) == 1
    printed = [as_plain_text(line) for line in capsys.readouterr().out.splitlines()]
    (shown,) = [block["code"] for block in _FENCE.finditer(ENGLISH.read_text()) if "What is missing" in block["code"]]
    position = 0
    for line in map(as_plain_text, shown.splitlines()):
        assert line in printed[position:], f"{line!r} is not printed, or not there"
        position = printed.index(line, position) + 1


def as_plain_text(line: str) -> str:
    """A line of a tree as it is where the terminal shows no such glyphs."""
    for glyph, word in (("✔ ", "yes "), ("✘ ", "no  "), ("？ ", "??? "), ("– ", "-   ")):
        line = line.replace(glyph, word)
    return line


# The public samples that the documents download are among the real quotes; there without the padding.
SAMPLES = {"tdx_quote": "phala-tdx4-tdx-quote-f1c850", "sgx_quote": "phala-sgx3-sgx-quote-f8b810"}


@needs_vectors
@pytest.mark.parametrize("document", [ENGLISH, ROOT / "docs" / "quick-start.md"], ids=named)
def test_the_verdicts_shown_are_what_verify_prints(
    document: Path, english: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for sample, vector in SAMPLES.items():
        shutil.copy(SHARED / "vectors" / vector / "quote.bin", tmp_path / sample)
        shutil.copy(SHARED / "vectors" / vector / "collateral.json", tmp_path / f"{sample}_collateral.json")
    monkeypatch.chdir(tmp_path)
    blocks = [(block["language"], block["code"]) for block in _FENCE.finditer(document.read_text())]
    compared = 0
    for (language, code), (_, output) in pairwise(blocks):
        command = code.replace("\\\n", " ").splitlines()[-1]
        if language == "sh" and "_quote_collateral.json --at" in command:
            _, *arguments = shlex.split(command)
            code_of_exit = main.run(arguments)
            printed = capsys.readouterr().out
            if "REFUSED" in output or "VERIFIED" in output:
                assert as_plain_text(printed.strip("\n")) == as_plain_text(output.strip("\n"))
                assert code_of_exit == (1 if "REFUSED" in output else 0)
                compared += 1
            else:
                assert code_of_exit == 0
    assert compared


@pytest.fixture
def evidence(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with the files that the examples read: a made platform's quote, in force now, under its own root."""
    now = datetime.now(UTC)
    span = {"begin": now - timedelta(days=1), "end": now + timedelta(days=29)}
    platform = made.make_platform()
    challenge = b"a challenge of the relying party"
    body = made.report_body(reportdata=sha256(challenge).digest() + bytes(32))
    info = made.tcb_info([made.tcb_level(7, "UpToDate")], **span)
    collateral = platform.collateral(
        tcb_info_text=info,
        identity_text=made.qe_identity(**span),
        root_ca_crl=made.crl(platform.root, **span),
        pck_crl=made.crl(platform.ca, **span),
    )
    quote = platform.quote(body=body.to_bytes())
    (tmp_path / "quote.bin").write_bytes(quote)
    (tmp_path / "collateral.json").write_text(export_bundle(collateral))
    (tmp_path / "root.pem").write_text(platform.root.pem)
    (tmp_path / "challenge.bin").write_bytes(challenge)
    (tmp_path / "policy.toml").write_text('mrsigner = "' + "53" * 32 + '"\ntrust_anchor = "root.pem"\n')
    (tmp_path / "quotes").mkdir()
    shutil.copy(tmp_path / "quote.bin", tmp_path / "quotes" / "1.bin")
    (tmp_path / "quotes" / "2.bin").write_bytes(quote[:-1])
    monkeypatch.chdir(tmp_path)
    return tmp_path


# What each example of docs/verification.md must print when it is run on that folder.
EXPECTED = {
    "verify": r"refused: chain\.untrusted-root - .+\n",  # the made platform is not Intel's
    "examine": r"pck-chain +failed \(.+\n(?s:.)*quote-signature +passed \n(?s:.)*policy +not reached \n(45){32}\n",
    "challenge": r"UpToDate until \d{4}-.+\n",
    "many": r"verified\nno quote: .+\n",
    "read": r"3 SGX [0-9a-f]{128}\n(45){32} (53){32} False\n",
}
EXAMPLES = {found["name"]: found["code"] for found in _EXAMPLE.finditer(VERIFICATION.read_text())}


@pytest.mark.parametrize("name", sorted(EXPECTED))
def test_examples_of_the_verification_guide_run(
    name: str, evidence: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    exec(compile(EXAMPLES[name], f"{VERIFICATION.name}:{name}", "exec"), {"__name__": "__main__"})
    assert re.fullmatch(EXPECTED[name], capsys.readouterr().out)


def test_every_example_marked_as_runnable_is_run() -> None:
    assert EXAMPLES.keys() == EXPECTED.keys()


def test_policies_shown_are_policies() -> None:
    shown = [found["code"] for found in _POLICY.finditer(VERIFICATION.read_text())]
    assert shown
    for text in shown:
        policy_from_settings(tomllib.loads(text))


def test_the_verification_guide_lists_every_rule_step_status_and_reason() -> None:
    text = VERIFICATION.read_text()
    rows = "\n".join(line for line in text.splitlines() if line.startswith("|"))
    for key in POLICY_KEYS:
        listed = f"`{key}`" in rows or re.fullmatch(r"rtmr[123]", key)
        assert listed, f"{key} is not in the table of policy keys"
    for step in Step:
        assert f"| `{step.value}` |" in rows
    for status in TcbStatus:
        assert f"| {status.value} |" in rows
    codes = {
        kind.code
        for kind in vars(errors).values()
        if isinstance(kind, type) and issubclass(kind, VerificationError) and kind is not VerificationError
    }
    families = {
        code.partition(".")[0] for code in codes if re.search(rf"`{re.escape(code.partition('.')[0])}\.\*`", rows)
    }
    for code in sorted(codes):
        assert f"`{code}`" in rows or code.partition(".")[0] in families, f"{code} is not explained"


def test_the_verification_guide_lists_every_flag() -> None:
    rows = "\n".join(line for line in VERIFICATION.read_text().splitlines() if line.startswith("|"))
    group = typer.main.get_command(main.app)
    verify = group.commands["quote"].commands["verify"]  # type: ignore[attr-defined]
    common = {"--json", "--debug", "--no-color", "--lang", "--help"}
    flags = {name for parameter in verify.params for name in parameter.opts if name.startswith("--")} - common
    assert flags
    assert [flag for flag in sorted(flags) if not re.search(rf"`{flag}[` ]", rows)] == []


def test_exit_codes_are_listed_for_every_command() -> None:
    text = (ROOT / "docs" / "exit-codes.md").read_text()
    group = typer.main.get_command(main.app)
    for name, command in group.commands.items():  # type: ignore[attr-defined]
        for part in getattr(command, "commands", {"": None}):
            assert f"`{name}" in text
            assert part in text


def test_python_in_documents_is_python() -> None:
    for document in DOCUMENTS:
        for block in _FENCE.finditer(document.read_text()):
            if block["language"] == "python":
                compile(block["code"], str(document), "exec")
