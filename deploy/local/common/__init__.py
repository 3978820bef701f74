"""What the counterparts share: an HTTP server, TLS, misbehaving on demand, starting and stopping."""
