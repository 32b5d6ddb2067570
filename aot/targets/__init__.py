"""One file a target family: how a kernel becomes an object there."""
