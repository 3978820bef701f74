"""Where the tests' servers and the running system come from."""
