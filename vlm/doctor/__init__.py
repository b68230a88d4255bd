"""What this installation has and lacks."""
