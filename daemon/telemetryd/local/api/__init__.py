"""The three APIs of Lambda, as the local one serves them."""
