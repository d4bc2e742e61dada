"""Unmodified programs on the emulated processor: they run natively under ptrace (x86-64 Linux only)."""
