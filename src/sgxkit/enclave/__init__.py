"""Enclave images: read them, lay them out, measure them, sign them."""
