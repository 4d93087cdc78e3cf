"""The platform on one machine: real processes under supervisord, everything on the loopback."""
