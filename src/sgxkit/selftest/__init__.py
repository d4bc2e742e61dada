"""The samples that people try first on an SGX machine, found, built, run and judged at one command."""
