"""The cache of collateral: how long an entry is good, what a damaged one costs, many who want the same at once."""

from __future__ import annotations

import json
import multiprocessing
import os
import threading
import time
from collections.abc import Iterator
from dataclasses import replace
from datetime import datetime, timedelta
from pathlib import Path

import pytest

from doubles.intel_service import (
    BEGIN,
    END,
    FMSPC,
    FakeService,
    Reply,
    authorities,
    certify,
    make_collateral,
    replies,
    serve,
)
from sgxkit.dcap import cache, pcs
from sgxkit.dcap.chains import PckCa
from sgxkit.dcap.collateral import Collateral
from sgxkit.dcap.collateral_summary import summarize
from sgxkit.dcap.quote import TeeType
from sgxkit.dcap.sources import (
    BundleSource,
    CachedSource,
    CollateralRequest,
    NotCachedError,
    ServiceSource,
    cache_key,
    import_collateral,
)
from sgxkit.dcap.transport import BadAnswerError, NotFoundError, Patience
from sgxkit.errors import FormatError, InputError
from sgxkit.messages import Message

COLLATERAL = make_collateral()
REQUEST = CollateralRequest(TeeType.SGX, FMSPC, PckCa.PROCESSOR)
HASTY = Patience(connect=10, read=20, total=60, attempts=1)
TCB = "/sgx/certification/v4/tcb"


@pytest.fixture(autouse=True)
def _no_proxy(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")


@pytest.fixture
def service() -> Iterator[FakeService]:
    with serve(replies(COLLATERAL)) as running:
        yield running


def source_of(
    service: FakeService,
    folder: Path,
    now: datetime = BEGIN,
    *,
    offline: bool = False,
    notes: list[Message] | None = None,
) -> CachedSource:
    upstream = pcs.pcs(service.url, root_crl_url=f"{service.url}/IntelSGXRootCA.der")
    return CachedSource(
        folder,
        ServiceSource(upstream, HASTY),
        offline=offline,
        clock=lambda: now,
        note=(notes if notes is not None else []).append,
    )


def only_file(folder: Path) -> Path:
    (path,) = folder.glob("*.json")
    return path


class TestFreshness:
    @pytest.mark.parametrize(
        ("collateral", "end"),
        [
            (make_collateral(), END),
            (make_collateral(crl_end=END - timedelta(days=9)), END - timedelta(days=9)),
            (
                make_collateral(
                    tcb_signer=certify(
                        "Intel SGX TCB Signing", authorities()["root"], ca=False, end=END - timedelta(days=20)
                    )
                ),
                END - timedelta(days=20) + timedelta(seconds=1),  # notAfter is the last second that counts
            ),
        ],
        ids=["JSON", "CRL", "certificate"],
    )
    def test_an_entry_is_good_until_its_first_piece_ends(
        self, tmp_path: Path, collateral: Collateral, end: datetime
    ) -> None:
        assert summarize(collateral).first_to_end.end == end
        with serve(replies(collateral)) as service:
            for now, questions in (
                (BEGIN, 1),
                (end - timedelta(seconds=1), 1),
                (end, 2),
                (end + timedelta(days=1), 3),
                (end - timedelta(seconds=1), 3),
            ):
                assert source_of(service, tmp_path / "cache", now).collateral(REQUEST) == collateral
                assert service.count("/tcb") == questions, now

    def test_what_ended_is_replaced(self, tmp_path: Path, service: FakeService) -> None:
        folder = tmp_path / "cache"
        source_of(service, folder).collateral(REQUEST)
        newer = make_collateral(begin=END, end=END + timedelta(days=30), crl_end=END + timedelta(days=30))
        service.answers.update(replies(newer))
        assert source_of(service, folder, END).collateral(REQUEST) == newer
        assert source_of(service, folder, END).collateral(REQUEST) == newer
        assert service.count("/tcb") == 2
        only_file(folder)

    def test_different_questions_have_different_answers(self, tmp_path: Path, service: FakeService) -> None:
        folder = tmp_path / "cache"
        requests = [
            REQUEST,
            replace(REQUEST, update="early"),
            replace(REQUEST, tcb_evaluation_data_number=17),
            replace(REQUEST, ca=PckCa.PLATFORM),
        ]
        for _ in range(2):
            for request in requests:
                source_of(service, folder).collateral(request)
        assert service.count("/tcb") == len(requests)
        with serve(replies(COLLATERAL)) as other:
            source_of(other, folder).collateral(REQUEST)
            assert other.count("/tcb") == 1


class TestOffline:
    def test_nobody_is_asked(self, tmp_path: Path, service: FakeService) -> None:
        folder = tmp_path / "cache"
        with pytest.raises(NotCachedError, match="no collateral"):
            source_of(service, folder, offline=True).collateral(REQUEST)
        assert not service.questions
        assert not folder.exists()
        source_of(service, folder).collateral(REQUEST)
        asked = len(service.questions)
        assert source_of(service, folder, offline=True).collateral(REQUEST) == COLLATERAL
        with pytest.raises(NotCachedError, match=f"ended on {END.date()}"):
            source_of(service, folder, END, offline=True).collateral(REQUEST)
        assert len(service.questions) == asked

    def test_imported_collateral_is_found(self, tmp_path: Path, service: FakeService) -> None:
        folder = tmp_path / "cache"
        source = source_of(service, folder, offline=True)
        with_pck = replace(COLLATERAL, pck_certificate_chain=COLLATERAL.pck_crl_issuer_chain)
        entry = import_collateral(folder, with_pck, source.upstream.service)
        assert entry.collateral == COLLATERAL
        assert source.collateral(REQUEST) == COLLATERAL

    def test_what_cannot_be_read_is_not_imported(self, tmp_path: Path) -> None:
        service = pcs.pcs()
        for broken in (
            replace(COLLATERAL, pck_crl=b""),
            replace(COLLATERAL, tcb_info="{}"),
            replace(COLLATERAL, pck_crl_issuer_chain=COLLATERAL.tcb_info_issuer_chain),
        ):
            with pytest.raises(FormatError):
                import_collateral(tmp_path, broken, service)
        assert not list(tmp_path.glob("*.json"))

    def test_a_bundle_answers_everything(self) -> None:
        assert BundleSource(COLLATERAL).collateral(REQUEST) is COLLATERAL


class TestDamage:
    @pytest.mark.parametrize(
        "damage",
        [
            lambda text: "",
            lambda text: text[:100],
            lambda text: text[:-10],
            lambda text: "\0" * len(text),
            lambda text: "{}",
            lambda text: text.replace("sgxkit-collateral-cache", "something else"),
            lambda text: text.replace("3082", "3083", 1),
            lambda text: text.replace("BEGIN CERT", "BEGIN CART", 1),
            lambda text: text + " " * (9 << 20),
            lambda text: json.dumps({**json.loads(text), "fmspc": "000000000000"}),
        ],
    )
    def test_a_damaged_entry_is_said_and_replaced(self, tmp_path: Path, service: FakeService, damage: object) -> None:
        assert callable(damage)
        folder = tmp_path / "cache"
        source_of(service, folder).collateral(REQUEST)
        path = only_file(folder)
        path.write_text(damage(path.read_text()))
        with pytest.raises(NotCachedError):
            source_of(service, folder, offline=True).collateral(REQUEST)
        notes: list[Message] = []
        assert source_of(service, folder, notes=notes).collateral(REQUEST) == COLLATERAL
        assert notes
        assert str(path) in str(notes[0])
        assert service.count("/tcb") == 2
        notes.clear()
        assert source_of(service, folder, notes=notes).collateral(REQUEST) == COLLATERAL
        assert service.count("/tcb") == 2
        assert not notes

    def test_what_the_service_answers_malformed_is_not_kept(self, tmp_path: Path, service: FakeService) -> None:
        service.change("/pckcrl", body=b"\x30\x00")
        with pytest.raises(BadAnswerError):
            source_of(service, tmp_path / "cache").collateral(REQUEST)
        assert not list((tmp_path / "cache").glob("*.json"))

    def test_errors_are_not_kept(self, tmp_path: Path, service: FakeService) -> None:
        service.first[TCB] = [Reply(status=404)]
        with pytest.raises(NotFoundError):
            source_of(service, tmp_path / "cache").collateral(REQUEST)
        assert source_of(service, tmp_path / "cache").collateral(REQUEST) == COLLATERAL


class TestFolder:
    def test_only_its_owner_can_read(self, tmp_path: Path, service: FakeService) -> None:
        folder = tmp_path / "a" / "b"
        source_of(service, folder).collateral(REQUEST)
        assert folder.stat().st_mode & 0o777 == 0o700
        assert {path.stat().st_mode & 0o777 for path in folder.iterdir()} == {0o600}
        assert not list(folder.glob("*.tmp"))

    def test_a_folder_that_others_can_write_to_is_not_used(self, tmp_path: Path, service: FakeService) -> None:
        tmp_path.chmod(0o777)
        notes: list[Message] = []
        for _ in range(2):
            assert source_of(service, tmp_path, notes=notes).collateral(REQUEST) == COLLATERAL
        assert service.count("/tcb") == 2
        assert len(notes) == 2
        assert not list(tmp_path.iterdir())
        with pytest.raises(InputError):
            import_collateral(tmp_path, COLLATERAL, pcs.pcs())

    def test_what_others_can_write_to_is_not_read_either(self, tmp_path: Path, service: FakeService) -> None:
        folder = tmp_path / "cache"
        assert source_of(service, folder).collateral(REQUEST) == COLLATERAL
        folder.chmod(0o777)
        notes: list[Message] = []
        assert source_of(service, folder, notes=notes).collateral(REQUEST) == COLLATERAL
        assert service.count("/tcb") == 2
        assert "others can write to it" in str(notes[0])
        with pytest.raises(NotCachedError):
            source_of(service, folder, offline=True).collateral(REQUEST)

    def test_a_user_without_a_home(self, monkeypatch: pytest.MonkeyPatch) -> None:
        def homeless() -> Path:
            raise RuntimeError("Could not determine home directory.")

        monkeypatch.setattr(Path, "home", homeless)
        with pytest.raises(InputError, match="no home folder"):
            cache.cache_folder({}, root=False)

    def test_a_folder_that_cannot_be_is_gone_without(self, tmp_path: Path, service: FakeService) -> None:
        (tmp_path / "file").write_text("")
        notes: list[Message] = []
        assert source_of(service, tmp_path / "file" / "cache", notes=notes).collateral(REQUEST) == COLLATERAL
        assert "cannot be used" in str(notes[-1])

    def test_the_number_of_entries_is_bounded(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(cache, "MAX_ENTRIES", 3)
        keys = [cache.CacheKey("a service", "sgx", f"{number:012x}", "processor", "standard") for number in range(6)]
        for age, key in enumerate(keys):
            entry = cache.store(tmp_path, key, COLLATERAL)
            os.utime(entry.path, (age, age))
        kept = {path.name for path in tmp_path.glob("*.json")}
        assert kept == {key.file_name for key in keys[3:]}

    def test_what_a_dead_process_left_is_dropped(self, tmp_path: Path) -> None:
        old, new = tmp_path / ".old.tmp", tmp_path / ".new.tmp"
        for path in (old, new):
            path.write_text("half an entry")
        os.utime(old, (0, 0))
        cache.store(tmp_path, cache.CacheKey("a service", "sgx", "0" * 12, "processor", "standard"), COLLATERAL)
        assert not old.exists()
        assert new.exists()

    @pytest.mark.parametrize(
        ("environment", "root", "folder"),
        [
            ({"XDG_CACHE_HOME": "/x"}, False, "/x/sgxkit/collateral"),
            ({"XDG_CACHE_HOME": "x"}, False, "~/.cache/sgxkit/collateral"),
            ({}, False, "~/.cache/sgxkit/collateral"),
            ({"XDG_CACHE_HOME": "/x"}, True, "/var/cache/sgxkit/collateral"),
            ({"SGXKIT_CACHE_DIR": "/y", "XDG_CACHE_HOME": "/x"}, True, "/y"),
            ({"SGXKIT_CACHE_DIR": "/y", "XDG_CACHE_HOME": "/x"}, False, "/y"),
        ],
    )
    def test_where_it_is(self, environment: dict[str, str], root: bool, folder: str) -> None:
        assert cache.cache_folder(environment, root=root) == Path(folder).expanduser()


def _fetch_in_child(url: str, folder: Path, start: object, results: object) -> None:
    start.wait()  # type: ignore[attr-defined]
    source = CachedSource(
        folder, ServiceSource(pcs.pcs(url, root_crl_url=f"{url}/IntelSGXRootCA.der"), HASTY), clock=lambda: BEGIN
    )
    results.put(source.collateral(REQUEST))  # type: ignore[attr-defined]


class TestConcurrency:
    def test_processes_that_want_the_same_ask_once(self, tmp_path: Path) -> None:
        processes = multiprocessing.get_context("spawn")
        start, results = processes.Barrier(8), processes.Queue()
        with serve(replies(COLLATERAL)) as service:
            children = [
                processes.Process(target=_fetch_in_child, args=(service.url, tmp_path / "cache", start, results))
                for _ in range(8)
            ]
            for child in children:
                child.start()
            found = [results.get(timeout=120) for _ in children]
            for child in children:
                child.join()
            assert all(child.exitcode == 0 for child in children)
            assert found == [COLLATERAL] * 8
            assert set(service.counts().values()) == {1}
        results.close()
        results.join_thread()

    def test_who_waits_takes_the_answer_it_waited_for(self, tmp_path: Path) -> None:
        # Even if it is over already: asking again would give the same.
        folder = tmp_path / "cache"
        older, over = (make_collateral(end=BEGIN, crl_end=BEGIN, number=number) for number in (16, 17))
        looked = threading.Event()

        def clock() -> datetime:
            looked.set()
            return END

        with serve({}) as service:
            source = replace(source_of(service, folder), clock=clock)
            key = cache_key(source.upstream.service, REQUEST)
            cache.store(folder, key, older)
            found: list[Collateral] = []
            waiting = threading.Thread(target=lambda: found.append(source.collateral(REQUEST)))
            with cache.locked(folder, key, seconds=10):
                waiting.start()
                assert looked.wait(60)
                cache.store(folder, key, over)
            waiting.join()
            assert found == [over]
            assert not service.questions

    def test_readers_never_see_half_an_entry(self, tmp_path: Path) -> None:
        key = cache.CacheKey("a service", "sgx", "0" * 12, "processor", "standard")
        versions = [make_collateral(number=number) for number in (16, 17)]
        cache.store(tmp_path, key, versions[0])
        done = threading.Event()
        failures: list[Message] = []
        seen: set[int] = set()

        def read() -> None:
            while not done.is_set():
                entry = cache.load(tmp_path, key, failures.append)
                assert entry is not None
                seen.add(entry.summary.tcb_info.tcb_evaluation_data_number)

        readers = [threading.Thread(target=read) for _ in range(2)]
        for reader in readers:
            reader.start()
        for turn in range(60):
            cache.store(tmp_path, key, versions[turn % 2])
        done.set()
        for reader in readers:
            reader.join()
        assert not failures
        assert seen == {16, 17}

    def test_a_lock_that_is_never_released_is_not_waited_for_for_ever(
        self, tmp_path: Path, service: FakeService
    ) -> None:
        folder = tmp_path / "cache"
        source = source_of(service, folder)
        impatient = replace(source, upstream=replace(source.upstream, patience=replace(HASTY, total=0.2)))
        with (
            cache.locked(folder, cache_key(source.upstream.service, REQUEST), seconds=1),
            pytest.raises(cache.CacheBusyError),
        ):
            impatient.collateral(REQUEST)
        assert not service.questions

    def test_a_process_that_dies_gives_its_lock_back(self, tmp_path: Path, service: FakeService) -> None:
        folder = tmp_path / "cache"
        source = source_of(service, folder)
        processes = multiprocessing.get_context("spawn")
        held = processes.Event()
        child = processes.Process(
            target=_hold, args=(folder, cache_key(source.upstream.service, REQUEST), held), daemon=True
        )
        child.start()
        assert held.wait(60)
        child.kill()
        child.join()
        assert source.collateral(REQUEST) == COLLATERAL


def _hold(folder: Path, key: cache.CacheKey, held: object) -> None:
    with cache.locked(folder, key, seconds=10):
        held.set()  # type: ignore[attr-defined]
        time.sleep(600)
