"""What goes between processes, and the rules about it: messages, codec, placement, clocks, hashing.

Pure: no socket, no thread, no file, no time; numpy, msgspec and the standard library alone.
"""
