"""The kernel: what every service is built on. No service's own rules live here."""
