"""The deployment with the local counterparts of outside services beside it, and the main story run against it."""
