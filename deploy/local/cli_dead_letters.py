"""Commands for dead letters."""

COMMANDS = ()
