"""The failure catalogue: what a line in a log means, as data.

The ``*.toml`` files here hold the entries, one file a subject (docs/diagnose.md has the format). `pattern` is the
language that signatures are written in, `entry` what an entry is, `reader` reads a file strictly, `shelf` puts the
shipped files and the reader's own together.
"""
