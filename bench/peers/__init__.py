"""The peers: alternatives to telemetryd, and ceilings. See README.md beside this file."""
