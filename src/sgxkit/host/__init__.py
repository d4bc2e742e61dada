"""A real host: what is read off it, and what follows from that."""
