"""The files of a container image: its layers over one another, as a tree that nothing in it leads out of.

OCI Image Format Specification 1.1, layer.md: change sets as tar archives; `.wh.NAME` removes what a lower layer has,
`.wh..wh..opq` all that lower layers have in its folder. Nothing is written to this machine's file system but the one
archive of `write_archive`.
"""

from __future__ import annotations

import hashlib
import posixpath
import tarfile
import zlib
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from typing import IO, cast

from sgxkit.errors import FormatError, InputError
from sgxkit.gramine.oci import Image
from sgxkit.messages import Message, msg

MAX_ENTRIES = 400_000
"""Names in all layers of an image."""

MAX_BYTES = 64 << 30
"""Of all layers, uncompressed."""

MAX_PATH = 4095
MAX_DEPTH = 128
_MAX_LINKS = 40
_MAX_TIME = (1 << 33) - 1
_MAX_READ = 1 << 20
_BLOCK = 1 << 18
_PERMISSIONS = 0o1777  # no program gains rights by its file
_WHITEOUT, _OPAQUE = ".wh.", ".wh..wh..opq"

Parts = tuple[str, ...]


@dataclass(eq=False, slots=True)
class Content:
    """What a regular file holds; hard links share it. `place` is the layer, and the number of the entry in it."""

    place: tuple[int, int]
    sha256: str
    size: int


@dataclass(eq=False, slots=True)
class Node:
    """A folder, a file (`content`) or a symbolic link (`target`), and the layer that has put it there."""

    layer: int
    mode: int
    uid: int
    gid: int
    time: int
    content: Content | None = None
    target: str | None = None
    children: dict[str, Node] = field(default_factory=dict)

    @property
    def is_folder(self) -> bool:
        return self.content is None and self.target is None


@dataclass(frozen=True, slots=True)
class Tree:
    """The merged files; `left_out` counts devices, sockets and pipes."""

    root: Node
    left_out: int

    def resolve(self, path: str) -> tuple[Parts, Node | None]:
        """Follow the links of a path from the root, as in a chroot; None where there is nothing.

        Raises InputError for links that go in circles.
        """
        return _resolve(self.root, _parts(path))

    def files(self) -> Iterator[tuple[str, Content]]:
        """Every name that opens a regular file, sorted in each folder: also through links, which a name inside keeps.

        A link to a folder that is being gone through is not followed. Raises InputError where there are too many.
        """
        open_folders = {id(self.root)}
        pending: list[tuple[Node, str, Parts, Iterator[tuple[str, Node]]]]
        pending = [(self.root, "", (), iter(sorted(self.root.children.items())))]
        seen = 0
        while pending:
            folder, path, real, names = pending[-1]
            entry = next(names, None)
            if entry is None:
                pending.pop()
                open_folders.discard(id(folder))
                continue
            seen += 1
            if seen > MAX_ENTRIES:
                raise InputError(msg("links in the image give its files over {limit} names", limit=MAX_ENTRIES))
            name, node = entry
            named = f"{path}/{name}"
            place: Parts = (*real, name)
            if len(named.encode(errors="surrogateescape")) > MAX_PATH:
                continue
            if node.target is not None:
                try:
                    place, found = _resolve(self.root, place)
                except InputError:
                    continue
                if found is None:
                    continue
                node = found
            if node.content is not None:
                yield named, node.content
            elif id(node) not in open_folders:
                open_folders.add(id(node))
                pending.append((node, named, place, iter(sorted(node.children.items()))))


def merge(image: Image) -> Tree:
    """Read all layers. Raises FormatError for what no layer may hold, with the layer and the name in it."""
    root = Node(0, 0o755, 0, 0, 0)
    budget = _Budget()
    left_out = 0
    for number, expected in enumerate(image.config.layers):
        with image.layer(number) as opened:
            stream = _Hashed(opened, budget, number)
            for order, member in _members(stream, number, budget):
                try:
                    left_out += not _apply(root, stream, member, (number, order))
                except InputError as problem:
                    raise _bad(number, problem.message, member.name) from problem
            _require_digest(stream, expected, number)
    return Tree(root, left_out)


def write_archive(image: Image, tree: Tree, file: IO[bytes]) -> dict[str, int]:
    """Write the tree as one tar archive, always the same for the same image, and return where contents begin.

    Folders come first, then files in the layers' order, then hard links, then symbolic links, so that nothing is
    written through a link. Links are written anew, relative and to where they lead inside the tree.
    """
    folders: list[tuple[Parts, Node]] = []
    links: list[tuple[Parts, Node]] = []
    files: dict[tuple[int, int], list[tuple[Parts, Node]]] = {}
    for place, node in _walk(tree.root):
        if node.content is not None:
            files.setdefault(node.content.place, []).append((place, node))
        elif node.target is not None:
            links.append((place, node))
        else:
            folders.append((place, node))
    offsets: dict[str, int] = {}
    with tarfile.open(fileobj=file, mode="w", format=tarfile.PAX_FORMAT) as out:
        for place, node in folders:
            out.addfile(_info(place, node, tarfile.DIRTYPE))
            _forget(out)
        for number, expected in enumerate(image.config.layers):
            if not any(layer == number for layer, _ in files):
                continue
            with image.layer(number) as opened:
                stream = _Hashed(opened, _Budget(), number)
                for order, _ in _members(stream, number, _Budget()):
                    for place, node in files.get((number, order), ())[:1]:
                        assert node.content is not None
                        info = _info(place, node, tarfile.REGTYPE)
                        info.size = node.content.size
                        out.addfile(info, cast("IO[bytes]", stream))
                        _forget(out)
                        offsets.setdefault(node.content.sha256, file.tell() - _padded(info.size))
                _require_digest(stream, expected, number)
        for same in files.values():
            first = "/".join(same[0][0])
            for place, node in same[1:]:
                info = _info(place, node, tarfile.LNKTYPE)
                info.linkname = first
                out.addfile(info)
        for place, node in links:
            try:
                target, _ = _resolve(tree.root, place)
            except InputError:
                continue
            info = _info(place, node, tarfile.SYMTYPE)
            info.linkname = posixpath.relpath("/" + "/".join(target), "/" + "/".join(place[:-1]))
            out.addfile(info)
            _forget(out)
    return offsets


def _require_digest(stream: _Hashed, expected: str, number: int) -> None:
    if stream.finish() != expected.removeprefix("sha256:"):
        raise _bad(number, msg("has another SHA-256 than the image's configuration says"))


def _forget(tar: tarfile.TarFile) -> None:
    """An archive remembers every entry that it has read or written; of many these are gigabytes."""
    tar.members = []  # type: ignore[attr-defined]


def _padded(size: int) -> int:
    return -(-size // tarfile.BLOCKSIZE) * tarfile.BLOCKSIZE


def _info(place: Parts, node: Node, kind: bytes) -> tarfile.TarInfo:
    info = tarfile.TarInfo("/".join(place))
    info.type, info.mode, info.uid, info.gid, info.mtime = kind, node.mode, node.uid, node.gid, node.time
    return info


def _walk(root: Node) -> Iterator[tuple[Parts, Node]]:
    pending: list[tuple[Parts, Node]] = [((), root)]
    while pending:
        place, node = pending.pop()
        if place:
            yield place, node
        pending.extend(((*place, name), child) for name, child in sorted(node.children.items(), reverse=True))


def _apply(root: Node, stream: _Hashed, member: tarfile.TarInfo, place: tuple[int, int]) -> bool:
    """Do to the tree what an entry says; False where it is left out."""
    layer = place[0]
    time = int(min(max(member.mtime, 0), _MAX_TIME))
    made = Node(layer, member.mode & _PERMISSIONS, member.uid, member.gid, time)
    parts = _parts(member.name)
    if ".." in parts:
        raise InputError(msg("leads out of the image"))
    if len(parts) > MAX_DEPTH or len(member.name.encode(errors="surrogateescape")) > MAX_PATH:
        raise InputError(msg("is too long a name"))
    if not parts:
        if member.isdir():
            root.mode, root.uid, root.gid, root.time = made.mode, made.uid, made.gid, made.time
        return True
    folder, name = _folder(root, parts[:-1], layer), parts[-1]
    if name == _OPAQUE:
        _remove_lower(folder, layer)
        return True
    if name.startswith(_WHITEOUT):
        hidden = name.removeprefix(_WHITEOUT)
        if hidden in ("", ".", ".."):
            raise InputError(msg("is a whiteout of nothing"))
        if hidden in folder.children and not _keep(folder.children[hidden], layer):
            del folder.children[hidden]
        return True
    known = folder.children.get(name)
    if member.isdir():
        if known is not None and known.is_folder:
            made = replace(made, children=known.children)
    elif member.issym():
        if not member.linkname or "\0" in member.linkname or len(member.linkname) > MAX_PATH:
            raise InputError(msg("is a link to nothing"))
        made.target = member.linkname
    elif member.islnk():
        linked = _parts(member.linkname)
        holder = None if not linked or ".." in linked else _resolve(root, linked[:-1])[1]
        found = None if holder is None or not holder.is_folder else holder.children.get(linked[-1])
        if found is None or found.is_folder:
            raise InputError(msg("is a hard link to what is no file of the image"))
        made = replace(found, layer=layer)
    elif member.isreg() and not member.issparse():
        made.content = Content(place, stream.hash_file(member.size), member.size)
    elif member.isreg():
        raise InputError(msg("is a sparse file, which is not read"))
    elif member.ischr() or member.isblk() or member.isfifo():
        folder.children.pop(name, None)
        return False
    else:
        raise InputError(msg("is of an unknown kind"))
    folder.children[name] = made
    return True


def _folder(root: Node, parts: Parts, layer: int) -> Node:
    """The folder of an entry, made where it is missing; links on the way are followed inside the tree."""
    place, node = _resolve(root, parts)
    if len(place) >= MAX_DEPTH:
        raise InputError(msg("is too long a name"))
    if node is None:
        node = root
        for part in place:
            node = node.children.setdefault(part, Node(layer, 0o755, 0, 0, 0))
            if not node.is_folder:
                raise InputError(msg("is in something that is no folder"))
    if not node.is_folder:
        raise InputError(msg("is in something that is no folder"))
    return node


def _remove_lower(folder: Node, layer: int) -> None:
    for name, child in list(folder.children.items()):
        if not _keep(child, layer):
            del folder.children[name]


def _keep(node: Node, layer: int) -> bool:
    """Whether this layer has put something there; what lower ones have below it goes. Depth is at most MAX_DEPTH."""
    _remove_lower(node, layer)
    return node.layer == layer or bool(node.children)


def _resolve(root: Node, parts: Parts) -> tuple[Parts, Node | None]:
    """Follow links, in the last part, too; never above the root. Where nothing is, the rest is taken as written."""
    place: list[str] = []
    nodes: list[Node | None] = [root]
    todo = list(reversed(parts))
    links = 0
    while todo:
        part = todo.pop()
        if part == "..":
            if place:
                place.pop()
                nodes.pop()
            continue
        here = nodes[-1]
        node = here.children.get(part) if here is not None else None
        if node is None or node.target is None:
            place.append(part)
            nodes.append(node)
            continue
        links += 1
        if links > _MAX_LINKS:
            raise InputError(msg("has links that go in circles"))
        if node.target.startswith("/"):
            place, nodes = [], [root]
        todo.extend(reversed(_parts(node.target)))
    return tuple(place), nodes[-1]


def _parts(path: str) -> Parts:
    return tuple(part for part in path.split("/") if part not in ("", "."))


def _members(stream: _Hashed, number: int, budget: _Budget) -> Iterator[tuple[int, tarfile.TarInfo]]:
    """Go through the entries of a layer, with their numbers."""
    try:
        with tarfile.open(fileobj=cast("IO[bytes]", stream), mode="r:") as tar:
            order = 0
            while (member := tar.next()) is not None:
                _forget(tar)
                budget.entry()
                if member.size < 0 or "\0" in member.name:
                    raise tarfile.ReadError(member.name)
                yield order, member
                order += 1
    except (tarfile.TarError, ValueError, ArithmeticError, LookupError) as problem:
        raise _bad(number, msg("is no tar archive, or a damaged one: {reason}", reason=str(problem))) from problem


class _Budget:
    """What all layers together may be."""

    def __init__(self) -> None:
        self._entries = 0
        self._bytes = 0

    def entry(self) -> None:
        self._entries += 1
        if self._entries > MAX_ENTRIES:
            raise FormatError("layers", msg("has over {limit} files", limit=MAX_ENTRIES))

    def read(self, count: int) -> None:
        self._bytes += count
        if self._bytes > MAX_BYTES:
            raise FormatError("layers", msg("is over {limit} bytes", limit=MAX_BYTES))


class _Hashed:
    """A layer's bytes, forwards alone, hashed; a header that claims to be huge is not believed."""

    def __init__(self, file: IO[bytes], budget: _Budget, number: int) -> None:
        self._file = file
        self._budget = budget
        self._number = number
        self._digest = hashlib.sha256()
        self._position = 0
        self._ended = 0

    def tell(self) -> int:
        return self._position

    def read(self, size: int) -> bytes:
        if not 0 <= size <= _MAX_READ:
            raise _bad(self._number, msg("has a header of {size} bytes", size=size))
        content = self._next(size)
        if size and not content:
            self._ended += 1
            if self._ended > 2:
                raise _bad(self._number, msg("ends too early"))
        return content

    def seek(self, position: int) -> int:
        if position < self._position:
            raise _bad(self._number, msg("has headers that lead backwards"))
        while self._position < position:
            if not self.read(min(_BLOCK, position - self._position)):
                break
        return self._position

    def hash_file(self, size: int) -> str:
        """SHA-256 of the next `size` bytes."""
        digest = hashlib.sha256()
        while size:
            content = self.read(min(_BLOCK, size))
            if not content:
                raise _bad(self._number, msg("ends too early"))
            digest.update(content)
            size -= len(content)
        return digest.hexdigest()

    def _next(self, size: int) -> bytes:
        try:
            content = self._file.read(size)
        except (OSError, EOFError, zlib.error) as problem:
            raise _bad(self._number, msg("is damaged: {reason}", reason=str(problem))) from problem
        self._budget.read(len(content))
        self._digest.update(content)
        self._position += len(content)
        return content

    def finish(self) -> str:
        """Read what is left, and return the SHA-256 of all."""
        while self._next(_BLOCK):
            pass
        return self._digest.hexdigest()


def _bad(number: int, problem: Message, name: str | None = None) -> FormatError:
    return FormatError(f"layer {number + 1}" if name is None else f"layer {number + 1}: {name}", problem)
