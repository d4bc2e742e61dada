"""The program's first steps, small so that they are over at once; `python -m sgxkit` runs it too."""

import signal


def main() -> None:
    """Run the command line of this process; the entry point of the installed program."""
    # Until the rest is imported, Ctrl-C ends the process as it ends any other: without a traceback.
    ours = signal.getsignal(signal.SIGINT) is signal.default_int_handler
    if ours:
        signal.signal(signal.SIGINT, signal.SIG_DFL)
    from sgxkit.cli import main as command_line  # noqa: PLC0415 - this import is what takes time

    if ours:
        signal.signal(signal.SIGINT, signal.default_int_handler)
    command_line.main()


if __name__ == "__main__":
    main()
