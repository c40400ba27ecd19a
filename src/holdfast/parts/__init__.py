"""Each part alone: state, checkpoints, progress, retries and a queue, on any store, with no agent and no worker.

The same rules, the same codec and the same verified rows as in runs; an id of the caller's own in the place of the run.
The monitor, which needs no store, is `holdfast.monitor`.
"""
