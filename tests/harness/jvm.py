"""What the JVMs of tests are started with."""

#: They live for minutes: they start faster so, leave the cores to others, and never earn back what the second compiler costs.
SHORT_LIVED = ("-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1")

__all__ = ["SHORT_LIVED"]
