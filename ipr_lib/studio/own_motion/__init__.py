"""Motion of one's own: BVH files are read, put on the floor, brought to an actor's body and recorded."""
