"""The benchmarks: each measures the kernel against a peer, or a limit, in the same run."""
