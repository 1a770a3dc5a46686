"""What the sinks of AWS services share: client, errors, transport, permissions."""
