"""A load: scenarios, senders, receivers, what is measured of them."""
