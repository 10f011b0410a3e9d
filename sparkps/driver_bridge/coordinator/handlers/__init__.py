"""What the coordinator does with each message, a module a subject: nodes, tables and functions, groups, the tier's own life.

A handler is a function of (core, connection, message). It returns the answer, or None where one follows later.
"""
