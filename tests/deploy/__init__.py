"""What is said of containers."""
