"""From a bare machine to an attested Intel SGX workload, and the proof of it."""

__version__ = "0.1.0"
