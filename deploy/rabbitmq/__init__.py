"""What the broker is given: exchanges, queues, users and what each of them may do, computed from the contracts."""
