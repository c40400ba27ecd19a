"""What a store does, as functions of a `Connection`: every transaction of the protocol, once for all databases.

Statements are named here (`"claim.due"`) and written by each store, in files of the same names (`sql/claim.sql`).
"""
