"""Gramine: manifests, their measurement and signing, projects (gramineproject.io, release 1.9)."""
