"""Real agents on real input, each written with holdfast's public names only."""
