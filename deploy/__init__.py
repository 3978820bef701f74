"""What it takes to run the system: images, servers' settings, the local stack."""
