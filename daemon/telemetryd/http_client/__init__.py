"""HTTP/1.1 for sinks: one client on the loop; `client` is its door, `messages` its types."""
