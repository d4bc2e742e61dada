"""The steps notice when something does not do what SGX promises."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from sgxkit.aesm.client import AesmClient
from sgxkit.dcap import Policy
from sgxkit.sample.calls import SampleEnclave
from sgxkit.up.surroundings import Surroundings, temporary_lab
from sgxkit.up.walk import Findings, Step, StepResult, WrongError, walk


@pytest.fixture(scope="module")
def surroundings() -> Iterator[Surroundings]:
    with temporary_lab() as found:
        yield found


def steps(surroundings: Surroundings, policy: Policy | None = None) -> list[StepResult]:
    return list(walk(surroundings, policy or Policy(), Findings()))


def test_everything_works(surroundings: Surroundings) -> None:
    findings = Findings()
    results = list(walk(surroundings, Policy(), findings))
    assert [result.step for result in results] == list(Step)[2:]
    assert [result.error for result in results] == [None] * len(results)
    assert all(result.sentences for result in results)
    assert findings.verification is not None
    assert findings.verification.verified


@pytest.mark.parametrize(
    ("function", "answer", "step"),
    [
        ("add", lambda *_: 41, Step.CALL),
        ("unseal", lambda *_: bytes(32), Step.SEAL),
        ("seal", lambda _self, _policy, data: data, Step.SEAL),
        ("verify", lambda *_: None, Step.LOCAL_ATTESTATION),
    ],
)
def test_a_wrong_answer_ends_it(
    surroundings: Surroundings, monkeypatch: pytest.MonkeyPatch, function: str, answer: object, step: Step
) -> None:
    monkeypatch.setattr(SampleEnclave, function, answer)
    last = steps(surroundings)[-1]
    assert last.step is step
    assert last.error is not None


def test_an_enclave_that_opens_what_is_not_its_own_is_noticed(
    surroundings: Surroundings, monkeypatch: pytest.MonkeyPatch
) -> None:
    secrets: dict[bytes, bytes] = {}

    def seal(_self: SampleEnclave, _policy: object, data: bytes) -> bytes:
        secrets[b"sealed"] = data
        return b"sealed"

    monkeypatch.setattr(SampleEnclave, "seal", seal)
    monkeypatch.setattr(SampleEnclave, "unseal", lambda _self, sealed: secrets.get(sealed, b""))
    last = steps(surroundings)[-1]
    assert (last.step, type(last.error)) == (Step.SEAL, WrongError)


def test_debug_mode_is_refused_whatever_the_policy_allows(surroundings: Surroundings) -> None:
    assert steps(surroundings, Policy(allow_debug=True))[-1].error is None


def test_a_debug_enclave_that_is_not_refused_is_noticed(
    surroundings: Surroundings, monkeypatch: pytest.MonkeyPatch
) -> None:
    quotes: list[bytes] = []
    quote = AesmClient.quote

    def always_the_first(client: AesmClient, report: bytes, key: bytes) -> bytes:
        quotes.append(quote(client, report, key))
        return quotes[0]

    monkeypatch.setattr(AesmClient, "quote", always_the_first)
    last = steps(surroundings)[-1]
    assert (last.step, type(last.error)) == (Step.REFUSE_DEBUG, WrongError)
