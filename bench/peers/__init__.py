"""The peers, each a program that runs in the peers' own environment."""
