"""The node agent: looks at its node again and again, and keeps the node object true.

One question a round, and a patch only where something differs, so that a cluster of thousands of nodes is asked less
than once a minute by each. The kubelet may set a resource to 0 that it does not know; the next round sees that.
"""

from __future__ import annotations

import logging
import random
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path

from sgxkit.errors import HostError, SgxkitError
from sgxkit.host.collect import collect_facts
from sgxkit.host.facts import Facts
from sgxkit.kubernetes.api_server import ApiServer, ApiServerError, Document, namespaced_path, node_path
from sgxkit.kubernetes.node_state import (
    NodeState,
    event_document,
    listed_status,
    nfd_features,
    node_patch,
    removal_patch,
)
from sgxkit.kubernetes.whole_file import write_public
from sgxkit.messages import Message, msg

_LOG = logging.getLogger("sgxkit.kubernetes.node_agent")

INTERVAL = 75.0
"""Seconds between rounds: with the patches of nodes that change, less than one call a minute and node."""
_JITTER = 0.1
_CONFLICT, _UNPROCESSABLE = 409, 422
_FEATURE_FILE = "sgxkit"


@dataclass(slots=True)
class AgentHealth:
    """Whether the agent does its work: when it last did, and what was wrong since."""

    looked: float = field(default_factory=time.monotonic)
    problem: Message | None = None
    rounds: int = 0
    patches: int = 0


def facts_of_node(host_root: str | None = None) -> Facts:
    """Read the facts of the node; in a container, `host_root` is where the host's /dev is mounted below."""
    facts = collect_facts(5.0, network=False)
    if host_root is None:
        return facts
    return replace(facts, devices=collect_facts(5.0, network=False, root=Path(host_root)).devices)


class NodeAgent:
    """Keeps one node object true."""

    def __init__(
        self,
        server: ApiServer,
        node: str,
        read_state: Callable[[], NodeState],
        *,
        registered_resources: Callable[[], frozenset[str]] | None = None,
        clock: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        """`registered_resources` asks the kubelet which device plugins it has; without it, what they list stays."""
        self.health = AgentHealth()
        self._server = server
        self._node = node
        self._read_state = read_state
        self._registered = registered_resources
        self._clock = clock

    def reconcile(self) -> NodeState:
        """One round: look, compare, patch where something differs. Raises ApiServerError, HostError."""
        state, node, operations = self._compare()
        if operations:
            self._server.patch(f"{node_path(self._node)}/status", operations)
            self.health.patches += 1
            _LOG.info(
                "%s", msg("{node}: {reason}: {message}", node=self._node, reason=state.reason, message=state.message)
            )
        before = listed_status(node)
        if before not in (None, state.status) and state.status != "Unknown":
            self._server.create(namespaced_path("default", "events"), event_document(node, state, self._clock()))
        self.health.rounds += 1
        return state

    def plan(self) -> tuple[NodeState, list[Document]]:
        """What `reconcile` would find, and patch. Raises ApiServerError, HostError."""
        state, _, operations = self._compare()
        return state, operations

    def _compare(self) -> tuple[NodeState, Document, list[Document]]:
        state = self._read_state()
        node = self._server.get(node_path(self._node))
        return state, node, node_patch(node, state, self._clock(), without_plugin=self._stale(node, state))

    def _stale(self, node: Document, state: NodeState) -> frozenset[str]:
        """Resources of our domain that the node lists, and no device plugin is registered for."""
        if self._registered is None:
            return frozenset()
        capacity = node.get("status", {}).get("capacity", {})
        ours = {name for name in capacity if name.startswith(f"{state.prefix}/")} - {state.epc_resource}
        if not ours:
            return frozenset()
        try:
            return frozenset(ours - self._registered())
        except HostError as error:  # nothing is removed on a guess
            _LOG.warning("%s", error)
            return frozenset()

    def remove(self, prefix: str) -> bool:
        """Take back what the agent wrote; returns whether there was anything. Raises ApiServerError."""
        operations = removal_patch(self._server.get(node_path(self._node)), prefix)
        if operations:
            self._server.patch(f"{node_path(self._node)}/status", operations)
        return bool(operations)

    def run(self, stop: threading.Event, interval: float = INTERVAL) -> None:
        """Go round until `stop`; what goes wrong is said, and tried again sooner and then later."""
        failures = 0
        while not stop.is_set():
            self.health.looked = time.monotonic()
            try:
                self.reconcile()
                self.health.problem, failures = None, 0
                pause = interval
            except SgxkitError as error:
                failures += 1
                self.health.problem = error.message
                _LOG.warning("%s", error)
                conflict = isinstance(error, ApiServerError) and error.status in (_CONFLICT, _UNPROCESSABLE)
                pause = 1.0 if conflict and failures == 1 else min(5.0 * 2**failures, max(interval, 300.0))
            self._server.close()  # rather than keep thousands of connections open between rounds
            # Agents that were started together do not go on asking together.
            stop.wait(pause * random.uniform(1 - _JITTER, 1 + _JITTER))  # noqa: S311 - not a secret

    def is_alive(self, interval: float) -> bool:
        """Whether a round was begun lately: an API server that is away is no reason to be started again."""
        return time.monotonic() - self.health.looked < max(4 * interval, 1200.0)


def write_features(folder: Path, state: NodeState) -> Path:
    """Write the file for Node Feature Discovery; raises HostError."""
    path = folder / _FEATURE_FILE
    write_public(path, nfd_features(state))
    return path


def run_nfd(
    folder: Path, read_state: Callable[[], NodeState], stop: threading.Event, interval: float = INTERVAL
) -> None:
    """Keep the file for Node Feature Discovery true until `stop`; raises HostError where it cannot be written."""
    written: str | None = None
    while not stop.is_set():
        state = read_state()
        text = nfd_features(state)
        if text != written:
            write_features(folder, state)
            written = text
            _LOG.info("%s: %s", state.reason, state.message)
        stop.wait(interval)
