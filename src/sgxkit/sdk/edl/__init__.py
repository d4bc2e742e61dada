"""EDL, the language in which enclaves of Intel's SDK declare their ECALLs and OCALLs."""
