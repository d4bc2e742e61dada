"""What is concluded from facts: one file a subject, all pure functions; `registry.CHECKS` has them in order."""
