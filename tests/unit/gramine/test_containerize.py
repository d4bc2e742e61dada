"""Images into projects: what of them is merged, trusted and measured, and which are refused."""

from __future__ import annotations

import hashlib
import io
import json
import tarfile
import tomllib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from doubles.images import (
    BASE,
    CONFIG,
    UPPER,
    Change,
    config_of,
    docker_save,
    entry,
    file,
    folder,
    hard_link,
    layer,
    link,
    oci_layout,
    tar_of,
)
from sgxkit.errors import FormatError, InputError, SgxkitError
from sgxkit.gramine.containerize import Choices, containerize
from sgxkit.gramine.finding import ManifestError
from sgxkit.gramine.oci import open_image
from sgxkit.gramine.template import render_template


def made(path: Path, out: Path, choices: Choices | None = None) -> dict[str, Any]:
    """The manifest that is made of an image."""
    with open_image(path) as image:
        containerize(image, out, choices or Choices())
    template = (out / f"{out.name}.manifest.template").read_text()
    return tomllib.loads(render_template(template, {}, file="template", installation=None))


def trusted(manifest: dict[str, Any]) -> dict[str, str]:
    entries = [each for each in manifest["sgx"]["trusted_files"] if isinstance(each, dict)]
    return {each["uri"].removeprefix("file:/image"): each["sha256"] for each in entries}


def names_in(out: Path) -> dict[str, tarfile.TarInfo]:
    with tarfile.open(out / "rootfs.tar") as tar:
        return {member.name: member for member in tar.getmembers()}


def _sha(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def test_layers_are_merged_and_every_name_of_a_file_is_trusted(tmp_path: Path) -> None:
    found = trusted(made(oci_layout(tmp_path / "image"), tmp_path / "web"))
    program, library, through = _sha(b"\x7fELF program"), _sha(b"library"), _sha(b"through the link")
    assert {found[f"{where}/{name}"] for where in ("/bin", "/usr/bin") for name in ("program", "same")} == {program}
    assert {found[f"{where}/{name}"] for where in ("/lib", "/usr/lib") for name in ("libx.so", "libx.so.1")} == {
        library
    }
    assert found["/lib/liby.so"] == found["/usr/lib/liby.so"] == through
    assert found["/srv/old/new"] == _sha(b"new")
    assert found['/srv/{{ evil }} "\n'] == _sha(b"name")
    assert not {"/srv/gone", "/srv/old/a"} & found.keys()
    assert not [path for path in found if ".wh." in path]


def test_the_manifest_says_what_the_image_says(tmp_path: Path) -> None:
    manifest = made(oci_layout(tmp_path / "image"), tmp_path / "web")
    assert manifest["libos"]["entrypoint"] == "/usr/bin/program"
    assert manifest["loader"]["argv"] == ["program", "--serve", "80"]
    assert manifest["loader"]["env"]["GREETING"] == "{{ 7 * 7 }} {% raw %} \"'"
    assert manifest["loader"]["env"]["LD_LIBRARY_PATH"] == "/gramine/lib:/lib:/usr/lib"
    assert (manifest["loader"]["uid"], manifest["loader"]["gid"]) == (33, 35)
    assert manifest["fs"]["start_dir"] == "/srv"
    assert manifest["fs"]["root"] == {"type": "chroot", "uri": "file:/image"}
    assert (manifest["sgx"]["enclave_size"], manifest["sgx"]["max_threads"]) == ("1G", 16)
    containerfile = (tmp_path / "web/Containerfile").read_text()
    assert 'ENTRYPOINT ["gramine-sgx", "web"]\n' in containerfile
    assert "EXPOSE 80/tcp\n" in containerfile
    assert "\nCMD" not in containerfile


def test_arguments_are_the_starters_only_where_asked_for(tmp_path: Path) -> None:
    choices = Choices(base="localhost/gramine:1.9", size="2G", threads=32, insecure_args=True)
    manifest = made(oci_layout(tmp_path / "image"), tmp_path / "web", choices)
    assert manifest["loader"]["insecure__use_cmdline_argv"] is True
    assert "argv" not in manifest["loader"]
    assert (manifest["sgx"]["enclave_size"], manifest["sgx"]["max_threads"]) == ("2G", 32)
    containerfile = (tmp_path / "web/Containerfile").read_text()
    assert 'ENTRYPOINT ["gramine-sgx", "web", "--serve"]\nCMD ["80"]\n' in containerfile
    assert "ARG BASE=localhost/gramine:1.9\n" in containerfile


def test_the_same_image_gives_the_same_bytes_in_whatever_form(tmp_path: Path) -> None:
    layout = oci_layout(tmp_path / "image")
    forms = [layout, layout, tar_of(tmp_path / "image.tar", layout), docker_save(tmp_path / "docker.tar")]
    results = []
    for number, form in enumerate(forms):
        out = tmp_path / str(number) / "web"
        out.parent.mkdir()
        made(form, out)
        results.append({each.name: each.read_bytes() for each in out.iterdir()})
    assert all(result == results[0] for result in results)
    assert results[0].keys() == {
        ".containerignore",
        "Containerfile",
        "Makefile",
        "rootfs.tar",
        "web.manifest.template",
    }


def test_no_link_leads_out_of_the_files(tmp_path: Path) -> None:
    changes = layer(
        link("srv/up", "../../../../etc/passwd"),
        link("srv/absolute", "/etc/passwd"),
        link("srv/nowhere", "../../../../../proc/self/mem"),
        link("srv/loop", "loop"),
        link("srv/here", "."),
        file("/srv/absolute-name", b"x"),
        file("srv/set", b"y", 0o4755),
        entry("dev/sda", tarfile.BLKTYPE),
    )
    manifest = made(oci_layout(tmp_path / "image", (BASE, changes)), tmp_path / "web")
    members = names_in(tmp_path / "web")
    assert members["srv/up"].linkname == members["srv/absolute"].linkname == "../etc/passwd"
    assert members["srv/nowhere"].linkname == "../proc/self/mem"
    assert "srv/loop" not in members
    assert "dev/sda" not in members
    assert members["srv/set"].mode == 0o755
    assert not [name for name in members if name.startswith("/") or ".." in name.split("/")]
    assert "/srv/absolute-name" in trusted(manifest)


def _huge_header() -> bytes:
    info = tarfile.TarInfo("x")
    info.type, info.size = tarfile.XHDTYPE, 1 << 32
    return info.tobuf(tarfile.USTAR_FORMAT) + bytes(4 << 20)


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ((file("../../etc/cron.d/x", b"x"),), "leads out of the image"),
        ((file("usr/../../x", b"x"),), "leads out of the image"),
        ((file("srv/.wh...", b""),), "whiteout of nothing"),
        ((file("etc/passwd/x", b"x"),), "no folder"),
        ((hard_link("srv/shadow", "../../etc/shadow"),), "hard link"),
        ((hard_link("srv/folder", "usr/bin"),), "hard link"),
        ((link("srv/a", "b"), link("srv/b", "a"), file("srv/a/x", b"x")), "circles"),
        ((entry("srv/empty", tarfile.SYMTYPE),), "link to nothing"),
        ((folder("d/" * 200),), "too long"),
    ],
)
def test_hostile_layers_are_refused(tmp_path: Path, changes: tuple[Change, ...], reason: str) -> None:
    image = oci_layout(tmp_path / "image", (BASE, layer(*changes)))
    with pytest.raises(FormatError, match=reason) as refused:
        made(image, tmp_path / "web")
    assert "layer 2" in str(refused.value)
    assert sorted(each.name for each in tmp_path.iterdir()) == ["image"]


@pytest.mark.parametrize(
    "content",
    [
        b"no archive" * 100,
        UPPER[:1500],
        _huge_header(),
        b"\x1f\x8b damaged",
        b"\x28\xb5\x2f\xfd zstd",
        b"\xff" * 5000,
    ],
)
def test_damaged_layers_are_refused(tmp_path: Path, content: bytes) -> None:
    image = oci_layout(tmp_path / "image", (BASE, content), pack=lambda each: each)
    with pytest.raises(FormatError, match="layer 2"):
        made(image, tmp_path / "web")
    assert not (tmp_path / "web").exists()


def test_links_that_multiply_names_are_bounded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sgxkit.gramine.image_files.MAX_ENTRIES", 2000)
    folders = [f"f{number}" for number in range(12)]
    changes = [link(f"{one}/{other}", f"../{other}") for one in folders for other in folders if one != other]
    with pytest.raises(InputError, match="over 2000 names"):
        made(oci_layout(tmp_path / "image", (BASE, layer(*changes))), tmp_path / "web")


def test_limits_of_layers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    image = oci_layout(tmp_path / "image")
    for name in ("MAX_ENTRIES", "MAX_BYTES"):
        with monkeypatch.context() as patch:
            patch.setattr(f"sgxkit.gramine.image_files.{name}", 10)
            with pytest.raises(FormatError, match="over 10 "):
                made(image, tmp_path / "web")


def test_what_is_not_what_its_digest_says_is_refused(tmp_path: Path) -> None:
    with pytest.raises(FormatError, match="SHA-256"):
        made(oci_layout(tmp_path / "a", config=config_of((BASE, BASE))), tmp_path / "web")
    with pytest.raises(FormatError, match="SHA-256"):
        made(docker_save(tmp_path / "b.tar", config=config_of((BASE, BASE))), tmp_path / "web")
    image = oci_layout(tmp_path / "c")
    for blob in sorted((image / "blobs/sha256").iterdir()):
        content = blob.read_bytes()
        blob.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
        with pytest.raises(FormatError, match="SHA-256"):
            made(image, tmp_path / "web")
        blob.write_bytes(content)


@pytest.mark.parametrize("escape", ["absolute", "upwards", "by a link"])
def test_no_name_of_an_image_leads_to_a_file_of_the_host(tmp_path: Path, escape: str) -> None:
    with tarfile.open(docker_save(tmp_path / "docker.tar")) as archive:
        archive.extractall(tmp_path / "image", filter="data")
    manifest = tmp_path / "image/manifest.json"
    (document,) = json.loads(manifest.read_text())
    name = Path(document["Config"]).name
    (tmp_path / "image" / document["Config"]).rename(tmp_path / name)
    document["Config"] = {"absolute": str(tmp_path / name), "upwards": f"../{name}", "by a link": f"link/{name}"}[
        escape
    ]
    (tmp_path / "image/link").symlink_to(tmp_path)
    manifest.write_text(json.dumps([document]))
    with pytest.raises(FormatError, match="leads out of the image"):
        made(tmp_path / "image", tmp_path / "web")


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"Entrypoint": None, "Cmd": None}, "names no program"),
        ({"Entrypoint": ["missing"]}, "no program missing"),
        ({"Entrypoint": ["/etc/passwd"]}, "no program"),
        ({"User": "nobody"}, "no user nobody"),
        ({"User": "web:nobody"}, "no group nobody"),
        ({"Env": ["no value"]}, "NAME=VALUE"),
        ({"Entrypoint": "text"}, "no list"),
        ({"Entrypoint": ["a\0b"]}, "character"),
    ],
)
def test_configurations_that_cannot_be_followed(tmp_path: Path, change: dict[str, Any], reason: str) -> None:
    config = config_of((BASE,), {**CONFIG, **change})
    with pytest.raises(SgxkitError, match=reason):
        made(oci_layout(tmp_path / "image", (BASE,), config), tmp_path / "web")


def test_ports_and_names_write_nothing_into_the_containerfile(tmp_path: Path) -> None:
    config = config_of((BASE,), {**CONFIG, "ExposedPorts": {"80\nRUN evil": {}}, "Cmd": ["a\nRUN evil"]})
    made(oci_layout(tmp_path / "image", (BASE,), config), tmp_path / "web", Choices(insecure_args=True))
    assert "\nRUN evil" not in (tmp_path / "web/Containerfile").read_text()
    with pytest.raises(InputError, match="name of an image"):
        made(tmp_path / "image", tmp_path / "other", Choices(base="x\nRUN evil"))


def test_other_processors_choices_and_files_are_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="arm64"):
        made(oci_layout(tmp_path / "arm", (BASE,), config_of((BASE,), architecture="arm64")), tmp_path / "web")
    image = oci_layout(tmp_path / "image")
    with pytest.raises(ManifestError, match="enclave_size"):
        made(image, tmp_path / "web", Choices(size="300M"))
    with pytest.raises(InputError, match="no such image"), open_image(image, "other:1"):
        pass
    (tmp_path / "empty").mkdir()
    (tmp_path / "text").write_text("no image" * 1000)
    for each in ("empty", "text", "missing"):
        with pytest.raises(InputError), open_image(tmp_path / each):
            pass


@pytest.mark.parametrize("write", [oci_layout, docker_save])
def test_truncated_images_never_end_in_another_error(tmp_path: Path, write: Callable[[Path], Path]) -> None:
    written = write(tmp_path / "image")
    whole = (tar_of(tmp_path / "tar", written) if written.is_dir() else written).read_bytes()
    for size in range(0, len(whole) - 2048, len(whole) // 40):
        (tmp_path / "short").write_bytes(whole[:size])
        try:
            made(tmp_path / "short", tmp_path / "web")
        except SgxkitError:
            continue
        assert tarfile.open(fileobj=io.BytesIO(whole[:size])).getnames()  # noqa: SIM115 - all that matters was there
        break
