"""Many hosts at once: the same questions and the same steps, over SSH."""
