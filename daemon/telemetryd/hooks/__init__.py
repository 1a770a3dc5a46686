"""Code of your own in the life cycle: `hooks.Hooks` is the door."""
