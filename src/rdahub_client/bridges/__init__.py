"""Ways from a hub into other programs, made of the public client only."""
