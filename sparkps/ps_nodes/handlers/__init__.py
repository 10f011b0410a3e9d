"""What a node does for each request and each command, a module a subject; `requests` and `commands` find it by the message's class."""
