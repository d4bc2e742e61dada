"""What to do about a verdict, as data for this host's operating system. Nothing here is ever run."""
