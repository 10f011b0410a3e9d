"""What breaks on demand, for tests: of sparkps itself and of jobs that use it."""
