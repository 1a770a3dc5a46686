"""Commands that look at something, print it and end."""
