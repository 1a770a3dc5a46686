"""From one sink's queue to its destination: batches, attempts, retries, losses."""
