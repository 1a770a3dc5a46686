"""Masks what lines must not say: `redactor` is the door."""
