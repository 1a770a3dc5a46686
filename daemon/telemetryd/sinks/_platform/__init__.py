"""The meaning of platform events, for the sinks that make metrics of them."""
