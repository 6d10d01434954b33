"""The command line: words into calls. One file per command, each imported light and working late."""
