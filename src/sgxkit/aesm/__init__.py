"""AESM: the daemon that quotes for enclaves; its messages, a client, and a server for a quoting service."""
