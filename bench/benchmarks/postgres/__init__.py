"""The promises on PostgreSQL: `make bench STORE=postgres`."""
