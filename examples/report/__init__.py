"""The second workload: an agent that makes a data-analysis report of any CSV, Parquet and SQLite sources."""
