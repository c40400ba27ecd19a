"""Pure decisions: values in, values out.

Laws of this package:
1. Nothing here reads a clock, rolls dice, logs, awaits, or touches a file; time and chance are arguments.
2. A rule never acts. It returns what must become durable, and the caller makes it so.
3. Rules know neither the store nor the worker that asks.
"""
