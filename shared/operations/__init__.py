"""Settings, logs, health, clock and the assembling of a process."""
