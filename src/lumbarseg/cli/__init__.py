"""The command line: one file per command, each parses arguments, calls one function of the package and prints."""
