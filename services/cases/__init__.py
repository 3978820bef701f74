"""Cases between residents and clinics."""
