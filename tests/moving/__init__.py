"""Runs that are carried from one store to another: the file, agents that go on there, processes that are killed."""
