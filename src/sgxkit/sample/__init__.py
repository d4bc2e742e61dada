"""The sample enclave: a real one, small, in assembly, for the emulated platform as for hardware."""
