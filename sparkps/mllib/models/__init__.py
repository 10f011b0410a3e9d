"""What the models of all families share: columns they add, where they are kept, and how their rows are scored."""
