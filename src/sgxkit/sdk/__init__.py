"""Enclaves of Intel's SDK: their interface, written in EDL, and how they are called."""
