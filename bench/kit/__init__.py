"""What all of bench is made of: cores, charts, statistics, progress."""
