"""What sparkps knows of Spark itself: slots, jobs, Python workers, and what it says when they fail."""
