"""The three APIs of Lambda over HTTP, as the local one serves them."""
