"""The launch test, in a process of its own (`launch_probe`) with a time limit.

A driver that hangs, or an exception in machine code, takes nobody with it.
"""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import replace

from sgxkit.host.collect import end
from sgxkit.host.document import Unread
from sgxkit.host.facts import Facts, Launch, LaunchFacts

_MAX_TEXT = 500


def with_launch_test(facts: Facts, timeout: float = 5.0) -> Facts:
    """Return the facts of this host with the outcome of the launch test, where there is a device to try."""
    debug = facts.launch.debug
    if isinstance(debug, Unread) or debug.outcome != "not_attempted":
        return facts
    return replace(facts, launch=_tried(timeout))


def _tried(timeout: float) -> LaunchFacts:
    # -P: this program's own modules, and none of the folder that the caller happens to be in.
    command = [sys.executable, "-P", "-m", "sgxkit.host.launch_probe"]
    process = subprocess.Popen(  # noqa: S603 - our own module, an argument list, no shell
        command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )
    try:
        output, errors = process.communicate(timeout=timeout)
    except subprocess.TimeoutExpired:
        unread = Unread("timeout", f"launching an enclave took more than {timeout:g} seconds")
        return LaunchFacts(unread, unread)
    finally:
        end(process)
    if process.returncode != 0:
        lines = errors.decode("utf-8", "replace").strip().splitlines() or ["no output"]
        unread = Unread("error", f"the launch test ended with {process.returncode}: {lines[-1][:_MAX_TEXT]}")
        return LaunchFacts(unread, unread)
    found = json.loads(output)
    debug, production = (Launch(**found[mode]) for mode in ("debug", "production"))
    return LaunchFacts(debug, production)
