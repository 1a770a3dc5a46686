"""Lines on disk, for as long as they can't be delivered."""
