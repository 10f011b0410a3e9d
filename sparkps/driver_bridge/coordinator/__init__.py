"""The coordinator: its process (`server`), and the control plane of a tier without sockets (`tier`).

`states` is the table of what may happen when, `handlers` what then happens, `core` what they work on. Imports nothing of the driver's
or the workers' side.
"""
