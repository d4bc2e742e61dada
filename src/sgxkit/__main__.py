"""`python -m sgxkit`: the same program, for where the installed script is not on the path."""

from sgxkit.cli.main import main

main()
