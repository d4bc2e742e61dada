"""The command line: parse arguments, call one function of the library, render its result."""
