"""What tells of trouble: figures that no process of a service has, and the alarms."""
