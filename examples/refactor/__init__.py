"""The main job: an agent that refactors a real codebase and lets its tests decide what stays."""
