"""The common parts of sinks of AWS services: client, errors, transport, permissions."""
