"""From the socket to the sinks' queues: what is read, and where it goes."""
