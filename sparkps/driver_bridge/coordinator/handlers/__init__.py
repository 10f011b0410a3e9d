"""What the coordinator does with each message, a module a subject: nodes, tables and functions, groups, the tier's own life.

A handler is a function of (core, connection, message), see `core.Handler`. It is called when `states` allows its message.
"""
