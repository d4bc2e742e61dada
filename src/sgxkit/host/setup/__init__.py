"""Bring a host into the state that a use of it needs, and back: plan, apply, undo, status."""
