"""Start a program under the filter, traced by this thread, and pass signals on to it."""

from __future__ import annotations

import contextlib
import errno
import os
import signal
import threading
from collections.abc import Mapping, Sequence

from sgxkit.emulator.tracer import ptrace, seccomp
from sgxkit.emulator.tracer.agent import AGENT, AGENT_SIZE
from sgxkit.emulator.tracer.machine import RunError
from sgxkit.messages import msg

_SI_KERNEL = 0x80
_PASSED_ON = {
    signal.SIGINT,
    signal.SIGQUIT,
    signal.SIGTERM,
    signal.SIGHUP,
    signal.SIGUSR1,
    signal.SIGUSR2,
}


def start_program(program: Sequence[str], environment: Mapping[str, str]) -> tuple[int, int]:
    """Start a program under the filter, traced by this thread; returns its process and where failures are read."""
    ready, go = os.pipe()
    failure_read, failure_write = os.pipe()
    code = seccomp.program_filter(AGENT, AGENT + AGENT_SIZE)
    pid = os.fork()
    if pid == 0:
        try:
            os.close(go)
            os.read(ready, 1)
            for number in range(1, signal.NSIG):
                with contextlib.suppress(OSError, ValueError):
                    if signal.getsignal(number) is not signal.SIG_IGN or number in (signal.SIGPIPE, signal.SIGXFSZ):
                        signal.signal(number, signal.SIG_DFL)
            seccomp.install(code)
            os.execvpe(program[0], list(program), dict(environment))  # noqa: S606 - what the user asked for
        except OSError as error:
            os.write(failure_write, str(error.errno).encode())
        except BaseException:  # noqa: BLE001 - nothing of this process may go on
            os.write(failure_write, str(errno.EINVAL).encode())
        finally:
            os._exit(125)
    os.close(ready)
    os.close(failure_write)
    try:
        ptrace.seize(pid)
    except OSError as error:
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)
        os.close(failure_read)
        raise RunError(
            msg("programs cannot be traced here: {reason}", reason=error.strerror or error),
            hint=msg(
                "a container needs the capability SYS_PTRACE; Yama's ptrace_scope must be below 3; "
                "what is traced cannot trace"
            ),
        ) from error
    finally:
        with contextlib.suppress(OSError):
            os.write(go, b"x")
        os.close(go)
    return pid, failure_read


@contextlib.contextmanager
def passing_on_signals(pid: int):  # type: ignore[no-untyped-def]
    """Pass signals for this process on to the program; those that a terminal sends it has already."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, _PASSED_ON)
    stop = signal.SIGRTMAX
    signal.pthread_sigmask(signal.SIG_BLOCK, {stop})

    def pass_on() -> None:
        while True:
            information = signal.sigwaitinfo({*_PASSED_ON, stop})
            if information.si_signo == stop:
                return
            if information.si_code != _SI_KERNEL:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, information.si_signo)

    thread = threading.Thread(target=pass_on, daemon=True)
    thread.start()
    try:
        yield
    finally:
        signal.pthread_kill(thread.ident or 0, stop)
        thread.join()
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
