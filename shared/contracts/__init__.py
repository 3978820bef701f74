"""What each service promises its callers and hearers: one module per service, shared by both ends."""
