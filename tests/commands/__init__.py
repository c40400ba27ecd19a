"""Programs as durable runs."""
