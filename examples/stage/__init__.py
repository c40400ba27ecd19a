"""What the demos of all workloads share: durable files, witnesses, the shell, kills, the screen and proofs."""
