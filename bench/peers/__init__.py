"""What a user would run instead of telemetryd, and the ceilings: see README.md beside this file."""
